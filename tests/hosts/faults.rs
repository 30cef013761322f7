//! Hosts, the server and the network between them fail in each way. What was acknowledged is kept.

use super::lab::{Lab, NAME, OTHER, STORE, sh};
use super::support::{until, wait};
use super::writer::Writer;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn a_dead_hosts_trees_go_when_its_lease_is_over_and_not_before() {
    let (mut lab, hosts) = Lab::with(8, 2);
    hosts[0].create("box", "RUN true\n").ok();
    let alive = Writer::start(&hosts[0], "box", "alive");
    let _dead = Writer::start(&hosts[1], "box", "dead");
    until("both are known", || lab.holds(&hosts[1]).contains("run "));
    let killed = Instant::now();
    hosts[1].dies();
    // A server that was away is no reason either: what is held has a term from its start.
    lab.kill();
    std::thread::sleep(Duration::from_secs(1));
    lab.serve(STORE);
    let started = Instant::now();
    let mut seen = 0;
    loop {
        let holds = lab.holds(&hosts[1]);
        if holds.is_empty() {
            break;
        }
        assert!(holds.contains("run "), "{holds}");
        seen += 1;
        assert!(
            killed.elapsed() < Duration::from_secs(60),
            "it is never reclaimed"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(
        seen > 0 && started.elapsed() >= Duration::from_secs(6),
        "before its time"
    );
    assert!(lab.log().contains("its host's lease is over: dropped"));
    assert_eq!(
        lab.stats()["leases"]["run_trees"],
        1,
        "the other's is there"
    );
    alive.goes_on();
    alive.end();
}

#[test]
fn a_server_killed_in_mid_build_and_under_runs_comes_back() {
    let (mut lab, hosts) = Lab::with(20, 2);
    hosts[0].create("box", "RUN true\n").ok();
    let writer = Writer::start(&hosts[1], "box", "w");
    let lines = "EXEC i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i >>/n; sleep 0.01; done\nRUN cat /n\n";
    let mut command = hosts[0].creating("long", lines);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let build = command.spawn().expect("pocker starts");
    for _ in 0..2 {
        until("it builds", || lab.holds(&hosts[0]).contains("build of"));
        std::thread::sleep(Duration::from_millis(300));
        lab.kill();
        std::thread::sleep(Duration::from_millis(300));
        lab.serve(STORE);
        writer.goes_on();
    }
    wait(build).ok();
    let numbers: String = (1..=300).map(|n| format!("{n}\n")).collect();
    assert_eq!(hosts[1].pocker(&["run", "long"]).ok().out, numbers);
    assert!(writer.end() > 0);
}

#[test]
fn a_server_that_moves_to_another_address_is_found_again() {
    let (mut lab, mut hosts) = Lab::with(30, 2);
    for host in &mut hosts {
        host.remote = format!("pocker://{NAME}");
        host.hosts_file = Some(host.world.write("hosts", &format!("{STORE} {NAME}\n")));
    }
    hosts[0].create("box", "RUN true\n").ok();
    let writer = Writer::start(&hosts[1], "box", "w");
    lab.kill();
    // Its old address is no more: nothing says that nobody listens there.
    sh(&format!("ip -n {} addr del {STORE}/24 dev br0", lab.net));
    sh(&format!(
        "ip -n {0} addr show dev br0 | grep -q {OTHER} || ip -n {0} addr add {OTHER}/24 dev br0",
        lab.net
    ));
    for host in &hosts {
        let text = format!("{OTHER} {NAME}\n");
        // In place: what is mounted over /etc/hosts is this file.
        std::fs::write(host.hosts_file.as_ref().expect("set"), text).expect("write");
    }
    lab.serve(OTHER);
    writer.goes_on();
    hosts[0].create("later", "EXEC true\nRUN true\n").ok();
    assert!(writer.end() > 0);
}

#[test]
fn a_host_that_was_cut_off_for_a_while_goes_on() {
    let (lab, hosts) = Lab::with(20, 1);
    hosts[0].create("box", "RUN true\n").ok();
    let writer = Writer::start(&hosts[0], "box", "w");
    hosts[0].link(false);
    std::thread::sleep(Duration::from_secs(3));
    assert!(
        lab.holds(&hosts[0]).contains("run "),
        "reclaimed before its time"
    );
    hosts[0].link(true);
    writer.goes_on();
    assert!(writer.end() > 0);
}

#[test]
fn a_network_that_loses_one_packet_in_ten_loses_no_write() {
    let (lab, hosts) = Lab::with(20, 1);
    hosts[0].create("box", "RUN true\n").ok();
    for net in [&lab.net, &hosts[0].net] {
        sh(&format!(
            "nsenter --net=/run/netns/{net} iptables -w -A INPUT ! -i lo -m statistic --mode random --probability 0.1 -j DROP"
        ));
    }
    let writer = Writer::start(&hosts[0], "box", "w");
    writer.goes_on();
    hosts[0]
        .create("lossy", "EXEC echo x >/x\nRUN cat /x\n")
        .ok();
    assert_eq!(hosts[0].pocker(&["run", "lossy"]).ok().out, "x\n");
    assert!(writer.end() > 0);
}

/// 2 Mbit/s each way: what a lease's renewals need goes between all the rest.
#[test]
fn a_slow_line_is_waited_for_and_no_lease_is_lost() {
    let (lab, hosts) = Lab::with(20, 1);
    let host = &hosts[0];
    host.create("box", "RUN true\n").ok();
    host.pocker(&["volume", "create", "data"]).ok();
    for (net, dev) in [(&lab.net, "h1"), (&host.net, "eth0")] {
        sh(&format!(
            "tc -n {net} qdisc add dev {dev} root tbf rate 2mbit burst 32kb latency 400ms"
        ));
    }
    let writer = Writer::start(host, "box", "w");
    host.world.write(
        "slow.pockerfile",
        "FROM box\nEXEC head -c 300000 /dev/urandom >/x; sha256sum /x >/sum\nRUN sha256sum -c /sum\n",
    );
    let mut build = host.command(&["create", "--no-browse", "-f", "slow.pockerfile", "slow"]);
    build.stdout(Stdio::piped()).stderr(Stdio::piped());
    let build = build.spawn().expect("pocker starts");
    let text = "head -c 400000 /dev/urandom >/d/f && sync && sha256sum /d/f";
    let put = ["run", "-v", "data:/d", "box", "--", "sh", "-c", text];
    let put = host.pocker(&put).ok().out;
    wait(build).ok();
    // Where the store is, what the host built is right.
    assert_eq!(lab.pocker(&["run", "slow"]).ok().out, "/x: OK\n");
    let get = ["run", "-v", "data:/d", "box", "--", "sha256sum", "/d/f"];
    assert_eq!(lab.pocker(&get).ok().out, put);
    writer.goes_on();
    assert!(lab.holds(host).contains("run "), "{}", lab.holds(host));
    assert!(writer.end() > 0);
    assert!(!lab.log().contains("lease is over"));
}

#[test]
fn a_host_that_was_away_for_too_long_has_lost_its_tree_and_is_told() {
    let (lab, hosts) = Lab::with(5, 1);
    hosts[0].create("box", "RUN true\n").ok();
    let said = hosts[0].world.path("said");
    std::fs::create_dir(&said).expect("mkdir");
    let graft = format!("{}:/said", said.display());
    let text = "echo up >/said/up; while sleep 0.2; do echo x >>/log || exit 7; done";
    let child = hosts[0].start(&["run", "-d", &graft, "box", "--", "sh", "-c", text]);
    until("it runs", || said.join("up").exists());
    hosts[0].link(false);
    until("it is reclaimed", || lab.holds(&hosts[0]).is_empty());
    hosts[0].link(true);
    let done = wait(child);
    assert_ne!(done.status, 0);
    assert!(done.err.contains("lease is over"), "{}", done.err);
    // The retry works.
    hosts[0].pocker(&["run", "box"]).ok();
}

/// Of two commands of one host, which no address tells apart.
#[test]
fn a_run_whose_lease_is_over_writes_to_no_volume_that_another_has_since() {
    let (mut lab, hosts) = Lab::with(5, 1);
    let host = &hosts[0];
    host.create("box", "RUN true\n").ok();
    host.pocker(&["volume", "create", "data"]).ok();
    // Each writes, and once more when it is told to. Its tree may be gone by then: the shell alone does it.
    let start = |name: &str| {
        let said = host.world.path(name);
        std::fs::create_dir(&said).expect("mkdir");
        sh(&format!("mkfifo {}/go", said.display()));
        let graft = format!("{}:/said", said.display());
        let text = format!(
            "echo {name} >/d/f && echo up >/said/up; read x </said/go; echo {name}-late >>/d/f; echo $? >/said/status"
        );
        let args = [
            "run", "-d", &graft, "-v", "data:/d", "box", "--", "sh", "-c", &text,
        ];
        let child = host.start(&args);
        until("it has written", || said.join("up").exists());
        (child, said)
    };
    let go_on = |said: &std::path::Path| {
        sh(&format!(
            "timeout 60 sh -c 'echo go >{}/go'",
            said.display()
        ));
        let status = said.join("status");
        let told = || std::fs::read_to_string(&status).unwrap_or_default();
        until("it has written again", || told().ends_with('\n'));
        told()
    };
    let (old, old_said) = start("one");
    host.link(false);
    until("it is reclaimed", || lab.holds(host).is_empty());
    host.link(true);
    let (new, new_said) = start("two");
    assert_ne!(go_on(&old_said), "0\n");
    let kept = || {
        let args = ["run", "-v", "data:/d:ro", "box", "--", "cat", "/d/f"];
        host.pocker(&args).ok().out
    };
    assert_eq!(kept(), "two\n");
    // The next server tells them apart as well.
    lab.kill();
    lab.serve(STORE);
    assert_eq!(go_on(&new_said), "0\n");
    assert_eq!(kept(), "two\ntwo-late\n");
    wait(new).ok();
    assert_ne!(wait(old).status, 0);
}
