# Another stack's RPC over TLS (RFC 9289): python's ssl, which is OpenSSL's.
#
#     peer.py SERVER CA ALPN [CERT KEY]
#
# asks for TLS, shakes hands, mounts the browse view and looks at its root. ALPN is "-" for none.
import socket
import ssl
import struct
import sys

NFS, MOUNT = (100003, 3), (100005, 3)
server, ca, alpn, shown = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]


def words(*all):
    return struct.pack(">%dI" % len(all), *all)


def opaque(data):
    return words(len(data)) + data + bytes(-len(data) % 4)


def call(stream, xid, program, procedure, args=b"", flavor=1):
    body = opaque(words(0, 0, 0, 0, 0)) if flavor == 1 else words(0)
    record = words(xid, 0, 2, *program, procedure, flavor) + body + words(0, 0) + args
    stream.sendall(words(0x80000000 | len(record)) + record)
    mark = struct.unpack(">I", exactly(stream, 4))[0]
    return exactly(stream, mark & 0x7FFFFFFF)


def exactly(stream, n):
    data = b""
    while len(data) < n:
        part = stream.recv(n - len(data))
        assert part, "the end"
        data += part
    return data


def connected():
    for port in range(1023, 600, -1):
        stream = socket.socket()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            stream.bind(("", port))
            stream.connect((server, 2049))
        except OSError:
            stream.close()
            continue
        return stream
    raise SystemExit("no port")


plain = connected()
print("plain", call(plain, 1, NFS, 1, opaque(b"x")) .hex())
print("late", call(plain, 2, NFS, 0, flavor=7).hex())
plain.close()

stream = connected()
answer = call(stream, 7, NFS, 0, flavor=7)
assert answer == words(7, 1, 0, 0, 8) + b"STARTTLS" + words(0), answer
context = ssl.create_default_context(cafile=ca)
context.minimum_version = ssl.TLSVersion.TLSv1_3
if alpn != "-":
    context.set_alpn_protocols([alpn])
if shown:
    context.load_cert_chain(*shown)
stream = context.wrap_socket(stream, server_hostname=server)
print("alpn", stream.selected_alpn_protocol())
print("again", call(stream, 8, NFS, 0, flavor=7).hex())
assert call(stream, 9, NFS, 0) == words(9, 1, 0, 0, 0, 0)
mounted = call(stream, 10, MOUNT, 1, opaque(b"/chroot"))
assert mounted[:28] == words(10, 1, 0, 0, 0, 0, 0), mounted
handle = mounted[32 : 32 + struct.unpack(">I", mounted[28:32])[0]]
looked = call(stream, 11, NFS, 1, opaque(handle))
assert looked[:28] == words(11, 1, 0, 0, 0, 0, 0), looked
print("kind", struct.unpack(">I", looked[28:32])[0])
