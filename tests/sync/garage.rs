//! Against Garage in three nodes, each on a disk of its own (tests/suites/garage installs it and runs this).

use super::support::{Done, World, until};
use super::{sent, stop, told, works_in, world};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const KEY: &str = "GK0123456789abcdef01234567";
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct Node {
    config: PathBuf,
    rpc: u16,
    s3: u16,
    child: Option<Child>,
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    free.local_addr().expect("an address").port()
}

fn program() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/suites/bin/garage");
    assert!(
        path.exists(),
        "tests/suites/garage installs {}",
        path.display()
    );
    path
}

impl Node {
    fn new(w: &World, number: usize) -> Node {
        let (rpc, s3) = (free_port(), free_port());
        let dir = w.path(&format!("node{number}"));
        std::fs::create_dir(&dir).expect("mkdir");
        let at = dir.display();
        // Three copies of all: what one node took is on the others, too.
        let config = format!(
            "metadata_dir = \"{at}/meta\"\ndata_dir = \"{at}/data\"\ndb_engine = \"sqlite\"\nreplication_factor = 3\n\
             rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{SECRET}\"\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{s3}\"\n"
        );
        let file = dir.join("garage.toml");
        std::fs::write(&file, config).expect("write");
        let mut node = Node {
            config: file,
            rpc,
            s3,
            child: None,
        };
        node.start();
        node
    }

    fn start(&mut self) {
        let mut command = Command::new(program());
        command.arg("-c").arg(&self.config).arg("server");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(
            command
                .stderr(Stdio::null())
                .spawn()
                .expect("garage starts"),
        );
        for port in [self.rpc, self.s3] {
            until("it listens", || {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
        }
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What it says; none where it refuses.
    fn says(&self, args: &[&str]) -> Option<String> {
        let mut command = Command::new(program());
        let out = command.arg("-c").arg(&self.config).args(args).output();
        let out = out.expect("garage runs");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        out.status.success().then_some(said)
    }

    #[track_caller]
    fn does(&self, args: &[&str]) -> String {
        let said = self.says(args);
        said.unwrap_or_else(|| panic!("garage {args:?} failed"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

fn cluster(w: &World) -> Vec<Node> {
    let nodes: Vec<Node> = (1..=3).map(|number| Node::new(w, number)).collect();
    let first = &nodes[0];
    for node in &nodes {
        let id = node.does(&["node", "id", "-q"]);
        let id = id.trim();
        if node.rpc != first.rpc {
            first.does(&["node", "connect", id]);
        }
        let own = id.split('@').next().expect("an id");
        first.does(&["layout", "assign", "-z", "here", "-c", "1G", own]);
    }
    first.does(&["layout", "apply", "--version", "1"]);
    first.does(&["key", "import", "--yes", "-n", "test", KEY, SECRET]);
    until("the nodes agree", || {
        first.says(&["bucket", "create", "bucket"]).is_some()
    });
    let allow = [
        "bucket", "allow", "--read", "--write", "bucket", "--key", "test",
    ];
    first.does(&allow);
    nodes
}

/// A command of a store that asks that node.
fn asked(w: &World, node: &Node, name: &str, args: &[&str]) -> Done {
    let endpoint = format!("http://127.0.0.1:{}", node.s3);
    let env = [
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_ENDPOINT", &endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "garage"),
    ];
    told(w, name, &env, args)
}

#[test]
#[ignore = "wants garage: tests/suites/garage"]
fn three_nodes_of_which_one_may_be_away() {
    let w = world();
    let mut nodes = cluster(&w);
    let there = "s3://bucket/some/prefix";
    let send = ["sync", "--json", "local", there, "box"];
    let all = asked(&w, &nodes[0], "store", &send).ok();
    assert!(sent(&all).2 > 3_000_000, "{}", all.out);
    // What one node took another gives.
    let fetch = ["sync", "--json", there, "local", "box"];
    let got = asked(&w, &nodes[1], "second", &fetch).ok();
    assert_eq!(sent(&got), sent(&all));
    works_in(&w, "second");
    stop(&w, "second");
    // One is away: both ways go on, by the others.
    nodes[2].end();
    let copy = ["sync", "local", "s3://bucket/copy", "--all"];
    asked(&w, &nodes[0], "store", &copy).ok();
    let fetch = ["sync", "s3://bucket/copy", "local", "box"];
    asked(&w, &nodes[1], "third", &fetch).ok();
    works_in(&w, "third");
    stop(&w, "third");
    // Two are: nothing is half done, and the command says what to look at.
    nodes[1].end();
    let fails = ["sync", "local", "s3://bucket/more", "box"];
    let said = asked(&w, &nodes[0], "store", &fails).fails(&["error: ", "hint: "]);
    let errors = said.err.lines().filter(|l| l.starts_with("error: "));
    assert_eq!(errors.count(), 1, "{}", said.err);
    nodes[1].start();
    nodes[2].start();
    until("it goes on when they are back", || {
        asked(&w, &nodes[0], "store", &fails).status == 0
    });
    let fetch = ["sync", "s3://bucket/more", "local", "box"];
    until("the node that was away gives what it missed", || {
        asked(&w, &nodes[2], "fourth", &fetch).status == 0
    });
    works_in(&w, "fourth");
    stop(&w, "fourth");
}
