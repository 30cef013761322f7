//! Connections of this host, of which only the kernel's have NFS.

use super::*;

/// NULL, or MOUNT's DUMP, which anybody may ask.
fn harmless(program: u32, version: u32, procedure: u32) -> Vec<u8> {
    let mut call = Vec::new();
    let start = start_record(&mut call);
    put_call(&mut call, 5, program, version, procedure, &creds());
    finish_record(&mut call, start);
    call
}

async fn asks(service: &Service, from: &str, calls: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let (_keep, stop) = watch::channel(false);
    let peer = Peer::Tcp(from.parse().expect("an address"));
    tokio::spawn(serve_connection(service.clone(), far, peer, stop));
    let mut replies = Vec::new();
    for call in calls {
        near.write_all(call).await.expect("sent");
        replies.push(reply(&mut near).await);
    }
    replies
}

#[tokio::test]
async fn a_process_of_this_host_has_mount_and_null_and_the_kernel_has_nfs() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let kernels = Kernels::these(move |peer| {
        // The first time it is not told.
        let asked = count.fetch_add(1, Ordering::SeqCst);
        (asked > 0).then_some(peer.port() == 700)
    });
    let stand = Arc::new(Stand::default());
    let service = Service::new(stand.clone()).to_kernels(Some(kernels));
    let calls = [
        harmless(NFS_PROGRAM, NFS_V3, 0),
        harmless(MOUNT_PROGRAM, MOUNT_V3, 2),
        read_call(1, 10),
        read_call(1, 10),
    ];
    // MSG_ACCEPTED or MSG_DENIED (RFC 5531, section 9).
    let denied = |replies: &[Vec<u8>]| -> Vec<bool> {
        let denied = |reply: &Vec<u8>| reply[8..12] == 1_u32.to_be_bytes();
        replies.iter().map(denied).collect()
    };
    let kernel = asks(&service, "127.0.0.1:700", &calls).await;
    assert_eq!(
        denied(&kernel),
        [false, false, true, false],
        "it is asked again"
    );
    let kernel = asks(&service, "127.0.0.1:700", &calls).await;
    assert_eq!(denied(&kernel), [false; 4]);
    assert_eq!(asked.load(Ordering::SeqCst), 3, "once a connection");
    let process = asks(&service, "127.0.0.1:701", &calls).await;
    assert_eq!(denied(&process), [false, false, true, true]);
    let mapped = asks(&service, "[::ffff:127.0.0.1]:701", &calls).await;
    assert_eq!(denied(&mapped), [false, false, true, true]);
    assert_eq!(
        stand.0.load(Ordering::SeqCst),
        3,
        "the file system was asked"
    );
    // Other hosts are not this one's to tell of.
    let other = asks(&service, "192.0.2.1:701", &calls).await;
    assert_eq!(denied(&other), [false; 4]);
    assert_eq!(asked.load(Ordering::SeqCst), 5);
}
