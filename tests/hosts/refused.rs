//! What is refused, each in a line with a hint; nothing is changed, and the retry works.

use super::lab::{Host, Lab, STORE, run, sh};
use super::support::until;
use std::os::unix::fs::PermissionsExt;

/// What a command says, without what differs from one test to the next.
fn said(lab: &Lab, host: &Host, args: &[&str]) -> String {
    let done = run(host.command(args));
    assert_ne!(done.status, 0, "{args:?} is let through: {}", done.out);
    assert!(done.err.contains("\nhint: "), "{}", done.err);
    let mut text = done.err;
    // As the kernel happens to see what nobody read.
    text = text.replace(
        "Connection reset by peer (os error 104)",
        "tls handshake eof",
    );
    for (dir, name) in [(&host.world, "HOST"), (&lab.world, "STORE")] {
        let dir = dir.dir.path().display().to_string();
        text = text.replace(&dir, name);
    }
    format!("$ pocker {}\n{text}\n", args.join(" "))
}

#[test]
fn tokens_that_are_not_good_are_refused_and_the_next_one_works() {
    let (lab, hosts) = Lab::with(20, 1);
    let host = &hosts[0];
    host.create("box", "RUN echo hello\n").ok();
    let good = std::fs::read_to_string(&host.token).expect("a token");
    let mut all = String::new();
    // Its id is known, and its secret is not.
    let (id, _) = good.rsplit_once('_').expect("id and secret");
    host.show(&format!("{id}_{}", "A".repeat(43)));
    all += &said(&lab, host, &["ls"]);
    host.show("hunter2");
    all += &said(&lab, host, &["run", "box"]);
    host.show(&lab.token("short", "build", "1s"));
    until("it has expired", || !host.pocker(&["ls"]).err.is_empty());
    all += &said(&lab, host, &["ls"]);
    host.show(&lab.token("lost", "admin", "1d"));
    host.pocker(&["ls"]).ok();
    lab.pocker(&["token", "revoke", "lost"]).ok();
    all += &said(&lab, host, &["ls"]);
    host.show(&lab.token("runs", "run", "1d"));
    all += &said(&lab, host, &["rm", "box"]);
    all += &said(
        &lab,
        host,
        &[
            "create",
            "--no-browse",
            "-f",
            "box.pockerfile",
            "--no-cache",
            "other",
        ],
    );
    all += &said(&lab, host, &["gc"]);
    all += &said(&lab, host, &["serve", "--stop"]);
    all += &said(&lab, host, &["token", "ls"]);
    all += &said(
        &lab,
        host,
        &["token", "create", "--role", "admin", "--expires", "1d"],
    );
    all += &said(&lab, host, &["store", "backup", "/nowhere"]);
    assert_eq!(host.pocker(&["run", "box"]).ok().out, "hello\n");
    host.show(&good);
    std::fs::set_permissions(&host.token, PermissionsExt::from_mode(0o644)).expect("chmod");
    all += &said(&lab, host, &["ls"]);
    std::fs::remove_file(&host.token).expect("removed");
    all += &said(&lab, host, &["ls"]);
    host.show(&good);
    host.pocker(&["rm", "box"]).ok();
    insta::assert_snapshot!(all);
    let listed = lab.pocker(&["token", "ls"]).ok().out;
    assert!(
        listed.contains("expired") && listed.contains("revoked"),
        "{listed}"
    );
    assert!(listed.contains("by 10.99.0.11"), "{listed}");
    // No secret is in the log, in the store, or in what is listed.
    let secret = good.trim().splitn(3, '_').nth(2).expect("a secret");
    let secret = secret.to_owned();
    assert!(!lab.log().contains(&secret) && !listed.contains(&secret));
    let index = std::fs::read(lab.world.path("store/index.db")).expect("read");
    let wal = std::fs::read(lab.world.path("store/index.db-wal")).unwrap_or_default();
    let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
    assert!(!holds(&index) && !holds(&wal));
}

/// Of a host's client, as its commands are: which of the store's first work trees it may look into.
fn looked_into(host: &super::lab::Host) -> Vec<u64> {
    use pocker::control::hosts::{Id, Lease};
    use pocker::control::looking::TreeRef;
    use pocker::control::remote::{Place, Remote, Token};
    use pocker::control::{Client, Endpoint};
    let text = |path: &std::path::Path| std::fs::read_to_string(path).expect("read");
    let id = text(&host.world.path("host-id"));
    super::replay::at(&host.net, || {
        let remote = Remote {
            place: Place::parse(&format!("pocker://{STORE}"), 2050).expect("a place"),
            ca: host.ca.clone(),
            tls: pocker::tls::client(&host.ca).expect("an authority"),
            token: Token(text(&host.token).trim().to_owned()),
            lease: Lease {
                host: id.trim().parse().expect("a number"),
                id: Id::draw().expect("random"),
            },
        };
        let client = Client::open(Endpoint {
            socket_dir: "/".into(),
            store: "/".into(),
            start: false,
            timeout: std::time::Duration::ZERO,
            remote: Some(std::sync::Arc::new(remote)),
        });
        let client = client.expect("connected");
        let may = |id: &u64| client.stat(&TreeRef::Work(*id), b"", false).is_ok();
        (0..100).filter(may).collect()
    })
}

#[test]
fn a_hosts_work_trees_are_not_looked_into_by_others() {
    let (_lab, hosts) = Lab::with(20, 2);
    let lines = "EXEC echo kept >/word\nRUN sleep 1000\n";
    hosts[0].create("box", lines).ok();
    let run = ["run", "--detach", "--name", "r", "box"];
    hosts[0].pocker(&run).ok();
    assert_eq!(hosts[1].pocker(&["cat", "box:/word"]).ok().out, "kept\n");
    assert_eq!(looked_into(&hosts[0]).len(), 1);
    assert_eq!(looked_into(&hosts[1]), Vec::<u64>::new());
    hosts[0].pocker(&["stop", "r"]).ok();
}

#[test]
fn a_server_that_is_not_what_it_should_be_is_not_spoken_to() {
    let (mut lab, mut hosts) = Lab::with(20, 1);
    let host = &mut hosts[0];
    host.create("box", "RUN echo hello\n").ok();
    let mut all = String::new();
    // An authority that looks the same, with another key.
    let other = lab.world.path("other").display().to_string();
    lab.pocker(&["serve", "init-tls", STORE, "--dir", &other])
        .ok();
    let ca = std::mem::replace(&mut host.ca, lab.world.path("other/ca.pem"));
    all += &said(&lab, host, &["ls"]);
    host.ca = host.world.path("none.pem");
    all += &said(&lab, host, &["ls"]);
    host.ca = ca;
    host.remote = "pocker://10.99.0.2".into();
    lab.kill();
    lab.serve("0.0.0.0");
    all += &said(&lab, host, &["ls"]);
    host.remote = format!("pocker://{STORE}:2049");
    all += &said(&lab, host, &["ls", "--server-timeout", "0"]);
    host.remote = "http://store".into();
    all += &said(&lab, host, &["ls"]);
    host.remote = format!("pocker://{STORE}:9");
    all += &said(&lab, host, &["ls", "--server-timeout", "0"]);
    host.remote = format!("pocker://{STORE}");
    // The same host, from an address that nobody allowed.
    let net = host.net.clone();
    sh(&format!(
        "ip -n {net} addr flush dev eth0; ip -n {net} addr add 10.99.0.40/24 dev eth0"
    ));
    all += &said(&lab, host, &["ls"]);
    let nfs = format!(
        "nsenter --net=/run/netns/{net} bash -c 'exec 3<>/dev/tcp/{STORE}/2049; read -t 5 -u 3 x; [ $? = 1 ]'"
    );
    sh(&nfs);
    sh(&format!(
        "ip -n {net} addr flush dev eth0; ip -n {net} addr add 10.99.0.11/24 dev eth0"
    ));
    assert_eq!(host.pocker(&["run", "box"]).ok().out, "hello\n");
    insta::assert_snapshot!(all);
}
