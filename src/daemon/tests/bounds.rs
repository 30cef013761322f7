//! How much a host may have recorded. The numbers are small in these tests.

use super::*;
use crate::daemon::bounds;
use axum::response::IntoResponse;

/// Refused as too many, or too large, with a hint: what is said.
async fn refused<T>(outcome: crate::daemon::fail::Outcome<T>, status: StatusCode) -> String {
    let response = outcome.err().expect("refused").into_response();
    assert_eq!(response.status(), status);
    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await;
    let said: ApiError = serde_json::from_slice(&body.expect("read")).expect("JSON");
    assert!(said.hint.is_some(), "{}", said.message);
    said.message
}

const MANY: StatusCode = StatusCode::TOO_MANY_REQUESTS;
const LARGE: StatusCode = StatusCode::BAD_REQUEST;

#[tokio::test]
async fn runs_and_trees() {
    let world = world();
    let mine = lease();
    for _ in 0..bounds::RUNS {
        world.run(command(mine));
    }
    refused(world.d.start_run(&new_run("box"), command(mine)), MANY).await;
    let other = world.run(command(lease())).id;
    world.d.end_run(other).expect("ended");
    let last = world.d.runs().expect("a list")[0].id;
    world.d.end_run(last).expect("ended");
    world.run(command(mine));
    let new = NewTree {
        base: None,
        purpose: Purpose::Mount,
        label: "box".into(),
        pid: 0,
    };
    for _ in 0..bounds::TREES {
        world.d.new_tree(&new, command(mine)).expect("a tree");
    }
    refused(world.d.new_tree(&new, command(mine)), MANY).await;
    world.d.new_tree(&new, command(lease())).expect("a tree");
    let label = "x".repeat(1000);
    let large = NewTree { label, ..new };
    refused(world.d.new_tree(&large, command(lease())), LARGE).await;
    let volume = VolumeMount {
        name: "data".into(),
        target: "/v".into(),
        read_only: true,
    };
    let crowded = NewRun {
        volumes: vec![volume; 257],
        ..new_run("box")
    };
    refused(world.d.start_run(&crowded, here()), LARGE).await;
}

#[tokio::test]
async fn a_token_and_a_place_have_so_much_however_many_hosts_they_are() {
    use crate::daemon::leases;
    let world = world();
    let net = |net: u8, host: u8| {
        IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 9, 0, net, 0, 0, 0, 0, 0, 0, 0, host])
    };
    let host = |token: &str, at| {
        let lease = lease();
        leases::is_seen_at(lease.host, at, token, 0);
        lease
    };
    let tree = NewTree {
        base: None,
        purpose: Purpose::Mount,
        label: "box".into(),
        pid: 0,
    };
    let record = |n: u8| MountRecord {
        target: format!("/m{n}"),
        what: "box@run".into(),
        tree: None,
        volume: None,
    };
    let all = |n: u8, lease: Lease| {
        let (owner, name) = (command(lease), format!("s{n}"));
        world.d.start_run(&new_run("box"), owner).map(drop)?;
        world.d.new_tree(&tree, owner).map(drop)?;
        world.d.add_mount(&record(n), Some(owner))?;
        world.d.put_service(Some(lease.host), &name, "".into())
    };
    let token = || lease().host.short();
    let (one, other) = (token(), token());
    // Each is a host of its own, in a net of its own; then of tokens of their own, in one.
    for n in 0..bounds::SERVICES as u8 {
        all(n, host(&one, net(n, 1))).expect("there is room");
    }
    for n in 0..(leases::OF_PLACE * bounds::SERVICES) as u8 {
        all(n, host(&token(), net(100, n))).expect("there is room");
    }
    for (token, at, which) in [
        (&one, net(101, 1), "with others of its token, has 12 "),
        (&other, net(100, 99), "the hosts at this address have 48 "),
    ] {
        let lease = host(token, at);
        let owner = command(lease);
        for said in [
            refused(world.d.start_run(&new_run("box"), owner), MANY).await,
            refused(world.d.new_tree(&tree, owner), MANY).await,
            refused(world.d.add_mount(&record(0), Some(owner)), MANY).await,
            refused(world.d.put_service(Some(lease.host), "s", "".into()), MANY).await,
        ] {
            assert!(said.contains(which), "{said}");
        }
    }
    all(0, host(&other, net(101, 1))).expect("another token in another net");
    all(1, lease()).expect("nothing is known of it");
}

#[tokio::test]
async fn a_start_that_is_refused_leaves_what_the_last_run_left() {
    let world = world();
    world.volume("data", false);
    let held = world.writes("data", command(lease())).0;
    let mine = lease();
    let last = world.run(command(mine)).id;
    world.d.end_run(last).expect("ended");
    let there = || world.d.works.get(last).is_ok();
    let wants = |volume: &str| NewRun {
        volumes: vec![VolumeMount {
            name: volume.into(),
            target: "/v".into(),
            read_only: false,
        }],
        ..new_run("box")
    };
    for (volume, status) in [
        ("data", StatusCode::CONFLICT),
        ("none", StatusCode::NOT_FOUND),
    ] {
        let refused_now = world.d.start_run(&wants(volume), command(mine));
        refused(refused_now, status).await;
        assert!(there(), "{volume}");
    }
    world.d.end_run(held).expect("ended");
    let begun = world.d.start_run(&wants("data"), command(mine));
    assert!(begun.is_ok() && !there());
}

#[tokio::test]
async fn mounts_and_services() {
    let world = world();
    let record = |target: String| MountRecord {
        target,
        what: "box@run".into(),
        tree: None,
        volume: None,
    };
    let mine = command(lease());
    for n in 0..bounds::MOUNTS {
        let record = record(format!("/m{n}"));
        world.d.add_mount(&record, Some(mine)).expect("recorded");
    }
    let known = record("/m0".into());
    world
        .d
        .add_mount(&known, Some(mine))
        .expect("it is there already");
    refused(world.d.add_mount(&record("/m".into()), Some(mine)), MANY).await;
    refused(world.d.begin_mount(record("/m".into()), mine), MANY).await;
    let other = Some(command(lease()));
    world
        .d
        .add_mount(&record("/m".into()), other)
        .expect("recorded");
    refused(world.d.add_mount(&record("/x".repeat(5000)), other), LARGE).await;

    let host = Some(lease().host);
    let put = |host, name: &str, text: &str| world.d.put_service(host, name, text.into());
    for n in 0..bounds::SERVICES {
        put(host, &format!("s{n}"), "").expect("recorded");
    }
    put(host, "s0", "again").expect("recorded");
    refused(put(host, "one-more", ""), MANY).await;
    put(Some(lease().host), "one-more", "").expect("recorded");
    refused(put(None, "large", &"x".repeat(300 << 10)), LARGE).await;
}
