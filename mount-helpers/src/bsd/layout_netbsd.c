/* Made by the tests of layout.rs; compiled with NetBSD's headers by scripts/cross-openbsd. */
#include <sys/param.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <nfs/rpcv2.h>
#include <nfs/nfsproto.h>
#include <nfs/nfs.h>
#include <nfs/nfsmount.h>
#include <stddef.h>

_Static_assert(sizeof(struct nfs_args) == 96, "sizeof(struct nfs_args)");
_Static_assert(offsetof(struct nfs_args, version) == 0, "offsetof(struct nfs_args, version)");
_Static_assert(offsetof(struct nfs_args, addr) == 8, "offsetof(struct nfs_args, addr)");
_Static_assert(offsetof(struct nfs_args, addrlen) == 16, "offsetof(struct nfs_args, addrlen)");
_Static_assert(offsetof(struct nfs_args, sotype) == 20, "offsetof(struct nfs_args, sotype)");
_Static_assert(offsetof(struct nfs_args, proto) == 24, "offsetof(struct nfs_args, proto)");
_Static_assert(offsetof(struct nfs_args, fh) == 32, "offsetof(struct nfs_args, fh)");
_Static_assert(offsetof(struct nfs_args, fhsize) == 40, "offsetof(struct nfs_args, fhsize)");
_Static_assert(offsetof(struct nfs_args, flags) == 44, "offsetof(struct nfs_args, flags)");
_Static_assert(offsetof(struct nfs_args, wsize) == 48, "offsetof(struct nfs_args, wsize)");
_Static_assert(offsetof(struct nfs_args, rsize) == 52, "offsetof(struct nfs_args, rsize)");
_Static_assert(offsetof(struct nfs_args, readdirsize) == 56, "offsetof(struct nfs_args, readdirsize)");
_Static_assert(offsetof(struct nfs_args, timeo) == 60, "offsetof(struct nfs_args, timeo)");
_Static_assert(offsetof(struct nfs_args, retrans) == 64, "offsetof(struct nfs_args, retrans)");
_Static_assert(offsetof(struct nfs_args, maxgrouplist) == 68, "offsetof(struct nfs_args, maxgrouplist)");
_Static_assert(offsetof(struct nfs_args, readahead) == 72, "offsetof(struct nfs_args, readahead)");
_Static_assert(offsetof(struct nfs_args, leaseterm) == 76, "offsetof(struct nfs_args, leaseterm)");
_Static_assert(offsetof(struct nfs_args, deadthresh) == 80, "offsetof(struct nfs_args, deadthresh)");
_Static_assert(offsetof(struct nfs_args, hostname) == 88, "offsetof(struct nfs_args, hostname)");
_Static_assert(sizeof(struct sockaddr_in) == 16, "sizeof(struct sockaddr_in)");
_Static_assert(offsetof(struct sockaddr_in, sin_family) == 1, "offsetof(struct sockaddr_in, sin_family)");
_Static_assert(offsetof(struct sockaddr_in, sin_port) == 2, "offsetof(struct sockaddr_in, sin_port)");
_Static_assert(offsetof(struct sockaddr_in, sin_addr) == 4, "offsetof(struct sockaddr_in, sin_addr)");
_Static_assert(NFS_ARGSVERSION == 3, "NFS_ARGSVERSION");
_Static_assert(SOCK_STREAM == 1, "SOCK_STREAM");
_Static_assert(NFS_MAXDATA == 65536, "NFS_MAXDATA");
_Static_assert(MNT_RDONLY == 1, "MNT_RDONLY");
_Static_assert(MNT_SYNCHRONOUS == 2, "MNT_SYNCHRONOUS");
_Static_assert(MNT_NOEXEC == 4, "MNT_NOEXEC");
_Static_assert(MNT_NOSUID == 8, "MNT_NOSUID");
_Static_assert(MNT_NODEV == 16, "MNT_NODEV");
_Static_assert(MNT_FORCE == 524288, "MNT_FORCE");
_Static_assert(NFSMNT_WSIZE == 2, "NFSMNT_WSIZE");
_Static_assert(NFSMNT_RSIZE == 4, "NFSMNT_RSIZE");
_Static_assert(NFSMNT_INT == 64, "NFSMNT_INT");
_Static_assert(NFSMNT_NFSV3 == 512, "NFSMNT_NFSV3");
_Static_assert(NFSMNT_READAHEAD == 8192, "NFSMNT_READAHEAD");
_Static_assert(NFSMNT_RESVPORT == 32768, "NFSMNT_RESVPORT");
_Static_assert(NFSMNT_NOAC == 524288, "NFSMNT_NOAC");
