//! Against Azurite, Microsoft's emulator of Azure's object store (tests/suites/clouds installs it and runs this).

use super::support::{Done, World, until};
use super::{sent, stop, told, works_in, world};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// What Azurite takes as its only account's, and says so itself.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

struct Cloud {
    child: Child,
    env: Vec<(&'static str, String)>,
    url: &'static str,
}

fn azurite() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/suites/clouds");
    let path = dir.join("node_modules/azurite/dist/src/blob/main.js");
    assert!(
        path.exists(),
        "tests/suites/clouds installs {}",
        path.display()
    );
    path
}

impl Cloud {
    fn start(mut command: Command, port: u16) -> Child {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("it starts");
        until("it answers", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        child
    }

    fn azure(w: &World) -> Cloud {
        let port = free_port();
        let mut command = Command::new("node");
        command
            .arg(azurite())
            .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry"])
            .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()])
            .arg("--location")
            .arg(w.path("azure"));
        let child = Cloud::start(command, port);
        let env = vec![
            ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT.to_owned()),
            ("AZURE_STORAGE_ACCOUNT_KEY", KEY.to_owned()),
            (
                "AZURE_STORAGE_ENDPOINT",
                format!("http://127.0.0.1:{port}/{ACCOUNT}"),
            ),
            ("AZURE_ALLOW_HTTP", "true".to_owned()),
        ];
        Cloud {
            child,
            env,
            url: "az://images/team",
        }
    }

    /// A command of a store that asks here.
    fn asked(&self, w: &World, name: &str, args: &[&str]) -> Done {
        told(w, name, &self.env, args)
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    free.local_addr().expect("an address").port()
}

/// There and back, only what is lacking, and errors that say what to do.
fn goes_and_comes(w: &World, cloud: &Cloud) {
    let push = ["sync", "--json", "local", cloud.url, "box"];
    let first = cloud.asked(w, "store", &push).ok();
    assert!(sent(&first).2 > 3_000_000, "{}", first.out);
    let again = cloud.asked(w, "store", &push).ok();
    assert_eq!(sent(&again), (0, 0, 0));
    let pull = ["sync", cloud.url, "local", "box"];
    cloud.asked(w, "other", &pull).ok();
    works_in(w, "other");
    stop(w, "other");
    cloud
        .asked(w, "other", &["sync", cloud.url, "local", "nothing"])
        .fails(&["hint: "]);
    let nowhere = cloud.url.replace("images", "nowhere");
    cloud
        .asked(w, "store", &["sync", "local", &nowhere, "box"])
        .fails(&["cannot", "hint: "]);
}

#[test]
#[ignore = "wants Azurite: tests/suites/clouds"]
fn azures_objects() {
    let w = world();
    let mut cloud = Cloud::azure(&w);
    make_container(&cloud);
    goes_and_comes(&w, &cloud);
    for (name, value) in &mut cloud.env {
        if *name == "AZURE_STORAGE_ACCOUNT_KEY" {
            *value = KEY.replace("Eby8", "Abc8");
        }
    }
    let refused = cloud.asked(&w, "store", &["sync", "local", cloud.url, "box"]);
    let refused = refused.fails(&["hint: ", "AZURE_STORAGE_ACCOUNT_KEY"]);
    assert!(!refused.err.contains("Abc8"), "{}", refused.err);
}

/// Where pockers go to is made by others: a request with the account's key, as Azure's own tools send it.
fn make_container(cloud: &Cloud) {
    const SCRIPT: &str = "
const [url, account, key] = process.argv.slice(1);
const date = new Date().toUTCString(), version = '2021-08-06';
const text = `PUT${'\\n'.repeat(12)}x-ms-date:${date}\\nx-ms-version:${version}\\n/${account}/${account}/images\\nrestype:container`;
const by = require('crypto').createHmac('sha256', Buffer.from(key, 'base64')).update(text).digest('base64');
const headers = { 'x-ms-date': date, 'x-ms-version': version, Authorization: `SharedKey ${account}:${by}` };
fetch(`${url}/images?restype=container`, { method: 'PUT', headers }).then(async r => {
  if (r.status != 201) { console.error(r.status, await r.text()); process.exit(1); }
});";
    let url = cloud
        .env
        .iter()
        .find(|(name, _)| *name == "AZURE_STORAGE_ENDPOINT");
    let url = &url.expect("said").1;
    let done = Command::new("node")
        .args(["-e", SCRIPT, url, ACCOUNT, KEY])
        .output()
        .expect("node");
    assert!(done.status.success(), "{done:?}");
}
