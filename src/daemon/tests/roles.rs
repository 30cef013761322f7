//! What is asked of who calls from another host, and in which order.

use super::*;

fn at(n: u8) -> IpAddr {
    IpAddr::from([10, 9, 8, n])
}

fn known(world: &World, lease: Lease) -> bool {
    let hosts = world.d.hosts().expect("a list");
    hosts.iter().any(|host| host.id == lease.host.short())
}

#[tokio::test]
async fn nothing_is_noted_of_who_is_not_let_in() {
    let world = world();
    let token = world.token(Role::Run);
    let call = |token| Call {
        world: &world,
        token,
        lease: lease(),
        from: at(1),
    };
    let refused = call("pocker_0_0");
    let (status, _) = refused.ask("GET", "/v1/hosts", &()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(!known(&world, refused.lease) && leases::of(refused.lease.host).is_empty());
    let refused = call(&token);
    let (status, _) = refused.ask("POST", "/v1/gc", &()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(!known(&world, refused.lease) && leases::of(refused.lease.host).is_empty());
    // Its lease is over: it is renewed, or not, before anything is written down.
    let late = call(&token);
    leases::renew(late.lease, false, at(1));
    leases::end(late.lease);
    let (status, said) = late.ask("POST", "/v1/hosts/beat", &()).await;
    assert_eq!(status, StatusCode::GONE, "{said}");
    assert!(!known(&world, late.lease));
    let good = call(&token);
    let (status, _) = good.ask("GET", "/v1/hosts", &()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(known(&world, good.lease));
    assert_eq!(leases::of(good.lease.host), [good.lease]);
}

#[tokio::test]
async fn a_token_is_of_so_many_hosts() {
    let world = world();
    let (token, other) = (world.token(Role::Run), world.token(Role::Run));
    let call = |token| Call {
        world: &world,
        token,
        lease: lease(),
        from: at(2),
    };
    let most = crate::daemon::hosts::HOSTS_OF_TOKEN;
    let mut hosts = Vec::new();
    for _ in 0..most {
        let host = call(&token);
        let (status, _) = host.ask("GET", "/v1/hosts", &()).await;
        assert_eq!(status, StatusCode::OK);
        hosts.push(host);
    }
    let refused = call(&token);
    let (status, said) = refused.ask("GET", "/v1/hosts", &()).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(said["hint"].is_string(), "{said}");
    assert!(!known(&world, refused.lease) && leases::of(refused.lease.host).is_empty());
    assert!(!leases::is_at(refused.lease.host, at(2)));
    // Those that are known go on, and another token has room.
    let (status, _) = hosts[0].ask("GET", "/v1/hosts", &()).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = call(&other).ask("GET", "/v1/hosts", &()).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn only_a_tree_or_volume_that_a_host_was_given_is_recorded_as_mounted() {
    let world = world();
    world.volume("data", false);
    let token = world.token(Role::Build);
    let call = Call {
        world: &world,
        token: &token,
        lease: lease(),
        from: at(3),
    };
    let record = |tree, volume: Option<&str>| MountRecord {
        target: "/m".into(),
        what: "box@run".into(),
        tree,
        volume: volume.map(|name| VolumeUse {
            name: name.into(),
            read_only: false,
        }),
    };
    let theirs = world.tree(command(lease())).id;
    let mine = world.tree(command(call.lease)).id;
    let uri = "/v1/mounts";
    for (tree, expected) in [
        // A number of tomorrow.
        (theirs + 1000, StatusCode::NOT_FOUND),
        (theirs, StatusCode::FORBIDDEN),
        (mine, StatusCode::OK),
    ] {
        let (status, said) = call.ask("POST", uri, &record(Some(tree), None)).await;
        assert_eq!(status, expected, "{said}");
    }
    let (status, _) = call.ask("POST", "/v1/mounts/remove", &"/m").await;
    assert_eq!(status, StatusCode::OK);
    assert!(!world.there(mine) && world.there(theirs));

    let named = record(None, Some("data"));
    let (status, said) = call.ask("POST", uri, &named).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(said["hint"].is_string(), "{said}");
    world.writes("data", here());
    let how = MountVolume {
        target: Some("/m".into()),
        pid: 0,
        read_only: true,
    };
    let (status, _) = call.ask("POST", "/v1/volumes/data/mount", &how).await;
    assert_eq!(status, StatusCode::OK);
    // It may read, and does not say that it writes.
    let (status, _) = call.ask("POST", uri, &named).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let mut reads = named;
    reads.volume.as_mut().expect("a volume").read_only = true;
    let (status, _) = call.ask("POST", uri, &reads).await;
    assert_eq!(status, StatusCode::OK);
    let other = Call {
        lease: next(call.lease),
        ..call
    };
    let (status, _) = other.ask("POST", uri, &reads).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "another command has it");
}

#[tokio::test]
async fn an_address_has_so_many_transfers_under_way() {
    let world = world();
    world.put("big", &vec![7; 8 << 20]);
    let big = world.d.known_pocker("big").expect("a pocker");
    let token = world.token(Role::Run);
    let call = |n| Call {
        world: &world,
        token: &token,
        lease: lease(),
        from: at(n),
    };
    let uri = format!("/v1/snapshots/{}/tar", big.steps[0].snapshot);
    let one = call(4);
    let mut under_way = Vec::new();
    let status = loop {
        let response = one.begin("GET", &uri, Body::empty()).await;
        if response.status() != StatusCode::OK || under_way.len() > 100 {
            break response.status();
        }
        under_way.push(response);
    };
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(under_way.len(), world.d.crowds.transfers.taken());
    // What is no transfer passes, and so does another address.
    let (status, _) = one.ask("GET", "/v1/pockers", &()).await;
    assert_eq!(status, StatusCode::OK);
    let other = call(5).begin("GET", &uri, Body::empty()).await;
    assert_eq!(other.status(), StatusCode::OK);
    drop(other);
    // What was read makes room, and so does what is given up.
    let whole = axum::body::to_bytes(under_way.pop().expect("one").into_body(), 1 << 24).await;
    assert!(whole.expect("read").len() > 8 << 20);
    assert_eq!(
        one.begin("GET", &uri, Body::empty()).await.status(),
        StatusCode::OK
    );
    under_way.clear();
    nobody(&world.d.crowds.transfers).await;
}

/// Threads end soon after nobody hears them any more.
async fn nobody(crowd: &crate::daemon::crowd::Crowd) {
    let free = async {
        while crowd.taken() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, free).await.expect("free");
}

#[tokio::test]
async fn who_hangs_up_frees_no_thread_and_beats_need_none() {
    let world = world();
    let token = world.token(Role::Build);
    let call = |n| Call {
        world: &world,
        token: &token,
        lease: lease(),
        from: at(n),
    };
    let (one, other) = (call(6), call(7));
    let calls = &world.d.crowds.calls;
    // What it asks for waits for this.
    let (go, went) = std::sync::mpsc::channel::<()>();
    let (held, holds) = std::sync::mpsc::channel();
    let d = world.d.clone();
    let keeper = std::thread::spawn(move || {
        let _change = d.change.lock();
        let _ = held.send(());
        let _ = went.recv();
    });
    holds.recv().expect("it is held");
    let mut tried = 0;
    let said = loop {
        let had = calls.taken();
        tried += 1;
        assert!(tried < 100);
        let taken = async {
            while calls.taken() == had {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            said = one.ask("POST", "/v1/pockers/box/reset", &()) => break said,
            // It hangs up.
            () = taken => {}
        }
    };
    assert_eq!(said.0, StatusCode::TOO_MANY_REQUESTS);
    assert!(said.1["hint"].is_string(), "{}", said.1);
    assert!(calls.taken() > 0, "they wait still");
    let (status, _) = one.ask("POST", "/v1/hosts/beat", &()).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = other.ask("GET", "/v1/pockers", &()).await;
    assert_eq!(status, StatusCode::OK);
    drop(go);
    keeper.join().expect("it ends");
    nobody(calls).await;
    let (status, _) = one.ask("GET", "/v1/pockers", &()).await;
    assert_eq!(status, StatusCode::OK);
}

/// Nobody sees it in the tree that it is of.
#[tokio::test]
async fn what_others_pushes_take_for_made_is_said_by_admins_alone() {
    let world = world();
    let sum = "ab".repeat(32);
    let uri = format!("/v1/layers/{sum}?form=gzip");
    let noted = crate::control::images::Noted {
        digest: format!("sha256:{sum}"),
        size: 7,
        diff_id: format!("sha256:{sum}"),
        repositories: Vec::new(),
    };
    for role in [Role::Run, Role::Build, Role::Admin] {
        let token = world.token(role);
        let call = Call {
            world: &world,
            token: &token,
            lease: lease(),
            from: at(4),
        };
        let (status, said) = call.ask("PUT", &uri, &noted).await;
        let refused = status == StatusCode::FORBIDDEN;
        assert_eq!(refused, role != Role::Admin, "{role:?}: {said}");
    }
}
