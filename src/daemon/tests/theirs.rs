//! What a host has is ended, dropped and looked into by itself, the server's own and an admin's.

use super::*;

fn ends(world: &World, lease: Lease) -> u64 {
    let run = world.run(command(lease)).id;
    world.d.end_run(run).expect("ended");
    run
}

#[test]
fn a_host_removes_no_pocker_that_runs_elsewhere() {
    let world = world();
    let one = lease();
    let run = world.run(here());
    let refused = world.d.remove_pocker("box", true, asker(one));
    let said = format!("{:?}", refused.expect_err("it runs here"));
    assert!(said.contains("the server's own host"), "{said}");
    assert!(here().lives() && world.there(run.id));
    world.d.end_run(run.id).expect("ended");
    // Nor what another host runs, or has mounted.
    let other = world.run(command(lease()));
    assert!(world.d.remove_pocker("box", true, asker(one)).is_err());
    world.d.end_run(other.id).expect("ended");
    let record = MountRecord {
        target: "/nowhere".into(),
        what: "box@run".into(),
        tree: None,
        volume: None,
    };
    world.d.begin_mount(record.clone(), here()).expect("noted");
    assert!(world.d.remove_pocker("box", true, asker(one)).is_err());
    assert_eq!(world.d.mounts_of(None).expect("a list"), [record]);
}

#[test]
fn what_others_left_stays_when_a_host_removes_or_resets() {
    let world = world();
    let (one, two) = (lease(), lease());
    let mine = ends(&world, one);
    let theirs = ends(&world, two);
    let own = world.run(here()).id;
    world.d.end_run(own).expect("ended");
    let failed = world.tree(command(two)).id;
    world.d.keep_tree(failed, "box").expect("kept");
    let kept = world.tree(command(one)).id;
    world.d.keep_tree(kept, "box").expect("kept");
    assert!(world.there(failed), "another host's is not in its place");
    assert_eq!(world.d.reset("box", asker(one)).expect("reset"), 2);
    assert!(!world.there(mine) && !world.there(kept));
    world
        .d
        .remove_pocker("box", true, asker(one))
        .expect("removed");
    for tree in [theirs, own, failed] {
        assert!(world.there(tree));
    }
    // Without the pocker too they are reset where they are from, and here all are.
    assert_eq!(world.d.reset("box", asker(two)).expect("reset"), 2);
    assert_eq!(world.d.reset("box", Asker::HERE).expect("reset"), 1);
    assert!(
        world.d.reset("box", Asker::HERE).is_err(),
        "nothing is left"
    );
}

#[test]
fn a_host_debugs_what_it_left_and_an_admin_what_any_did() {
    let world = world();
    let (one, two) = (lease(), lease());
    let theirs = ends(&world, two);
    let debug = |asker| world.d.debug_tree("box", asker).map(|tree| tree.id).ok();
    assert_eq!(debug(asker(one)), None);
    let all = Asker {
        all: true,
        ..asker(one)
    };
    assert_eq!(debug(all), Some(theirs));
    assert_eq!(debug(Asker::HERE), Some(theirs));
    let mine = ends(&world, one);
    let failed = world.tree(command(two)).id;
    world.d.keep_tree(failed, "box").expect("kept");
    assert_eq!(debug(asker(one)), Some(mine));
    assert_eq!(debug(asker(two)), Some(failed));
    // One's own goes first.
    let kept = world.tree(command(one)).id;
    world.d.keep_tree(kept, "box").expect("kept");
    let last = world.tree(command(lease())).id;
    world.d.keep_tree(last, "box").expect("kept");
    assert_eq!(debug(all), Some(kept));
}

#[tokio::test]
async fn the_routes_know_who_asks() {
    let world = world();
    let run = world.run(here()).id;
    world.d.end_run(run).expect("ended");
    let (build, admin) = (world.token(Role::Build), world.token(Role::Admin));
    let call = |token| Call {
        world: &world,
        token,
        lease: lease(),
        from: IpAddr::from([10, 9, 9, 1]),
    };
    let none = &();
    let (status, _) = call(&build).ask("GET", "/v1/pockers/box/debug", none).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, dropped) = call(&build)
        .ask("POST", "/v1/pockers/box/reset", none)
        .await;
    assert_eq!((status, dropped), (StatusCode::OK, 0.into()));
    let again = world.run(here());
    let uri = "/v1/pockers/box?force=true";
    let (status, said) = call(&build).ask("DELETE", uri, none).await;
    assert_eq!(status, StatusCode::CONFLICT, "{said}");
    assert!(said["hint"].is_string(), "{said}");
    world.d.end_run(again.id).expect("ended");
    let (status, dropped) = call(&admin)
        .ask("POST", "/v1/pockers/box/reset", none)
        .await;
    assert_eq!((status, dropped), (StatusCode::OK, 1.into()));
    // One that was made and is not recorded yet is nobody's to drop.
    let limits = pocker_store::work::Limits::NONE;
    let made = world.d.clone_within(None, Purpose::Run, "box", limits);
    let made = made.expect("a tree");
    let uri = format!("/v1/trees/{made}");
    let (status, _) = call(&build).ask("DELETE", &uri, none).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(world.there(made));
}

/// Of what is mounted here only that of the pocker which is removed is taken away, and of other
/// hosts' places by the same name nothing.
#[test]
fn a_removal_unmounts_its_own_here_and_nothing_else() {
    let world = world();
    world.put("other", b"there");
    let record = |target: &str, what: &str| MountRecord {
        target: target.into(),
        what: what.into(),
        tree: None,
        volume: None,
    };
    let afar = lease();
    for (target, what, owner) in [
        ("/nowhere/a", "box@run", here()),
        ("/nowhere/b", "other@run", here()),
        ("/nowhere/c", "box@run", command(afar)),
        ("/nowhere/b", "box@run", command(afar)),
    ] {
        let begun = world.d.begin_mount(record(target, what), owner);
        begun.expect("noted");
    }
    world
        .d
        .remove_pocker("box", true, Asker::HERE)
        .expect("removed");
    let left = |host| world.d.mounts_of(host).expect("a list");
    assert_eq!(left(None), [record("/nowhere/b", "other@run")]);
    assert_eq!(left(Some(afar.host)).len(), 2);
}
