//! Debian's docker-registry, on this host's loopback: images pushed, pulled and built on, and every way in
//! which a registry can fail.

use crate::support::{World, until};
use crate::tools::{buildah, pocker, tool};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// docker-registry with storage in the world's directory.
pub struct Registry {
    child: Child,
    pub address: String,
}

/// `somebody` and `s3cret-word`, as htpasswd writes them.
const HTPASSWD: &str = "somebody:$2b$04$eat2MBxBZveyV5yql4Xfpe03cttcxOxcAtK32MRzqCr2zQzC95Gce\n";

impl Registry {
    fn start(w: &World, password: bool) -> Registry {
        let mut more = String::new();
        if password {
            w.write("htpasswd", HTPASSWD);
            let dir = w.dir.path().display();
            more = format!("auth: {{htpasswd: {{realm: here, path: {dir}/htpasswd}}}}\n");
        }
        Registry::with(w, "", &more)
    }

    /// With more in its `http` section, and beside it.
    pub fn with(w: &World, http: &str, more: &str) -> Registry {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = port.local_addr().expect("its number").to_string();
        drop(port);
        let dir = w.dir.path().display();
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {dir}/registry}}}}\nhttp: {{addr: '{address}'{http}}}\nlog: {{level: error}}\n{more}"
        );
        w.write("registry.yml", &config);
        let mut command = Command::new("docker-registry");
        command
            .args(["serve", "registry.yml"])
            .current_dir(w.dir.path());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command
            .spawn()
            .expect("docker-registry; scripts/test installs it");
        until("the registry listens", || {
            TcpStream::connect(&address).is_ok()
        });
        Registry { child, address }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tar(w: &World, name: &str) -> Vec<u8> {
    w.pocker(&["export", name, "-o", "x.tar"]).ok();
    std::fs::read(w.path("x.tar")).expect("tar")
}

#[test]
fn images_go_through_a_registry_both_ways() {
    let w = World::new();
    pocker(&w);
    let said = w.pocker(&["run", "ours"]).ok().out;
    let registry = Registry::start(&w, false);
    let image = |rest: &str| format!("{}/team/{rest}", registry.address);
    let pushed = w.pocker(&["push", "ours", &image("web:v1")]).ok().out;
    let pushed = pushed.trim();
    assert!(pushed.starts_with(&image("web@sha256:")), "{pushed}");
    // The same again is the same image, and nothing of it is sent.
    assert_eq!(
        w.pocker(&["push", "ours", &image("web:v2")])
            .ok()
            .out
            .trim(),
        pushed
    );
    w.pocker(&["pull", &image("web:v1")]).ok();
    assert!(tar(&w, "web") == tar(&w, "ours"), "another tree");
    assert_eq!(w.pocker(&["run", "web"]).ok().out, said);
    w.pocker(&["pull", &image("web:v1")])
        .fails(&["there is a pocker named web", "hint: "]);

    // The other tools get it from there, and give theirs.
    let theirs = format!("docker://{}", image("web:v2"));
    tool(
        &w,
        &[
            "skopeo",
            "copy",
            "--src-tls-verify=false",
            &theirs,
            "oci:copied:v2",
        ],
    );
    w.pocker(&["import", "copied", "copied"]).ok();
    assert!(tar(&w, "copied") == tar(&w, "ours"), "another tree");
    let container = buildah(&w, &["from", "--tls-verify=false", &image("web:v2")]);
    buildah(
        &w,
        &[
            "run",
            &container,
            "--",
            "/bin/sh",
            "-c",
            "echo made by buildah >/tmp/note",
        ],
    );
    buildah(
        &w,
        &[
            "config",
            "--cmd",
            "[\"/bin/cat\", \"/tmp/note\"]",
            &container,
        ],
    );
    buildah(&w, &["commit", &container, "more"]);
    buildah(
        &w,
        &[
            "push",
            "--tls-verify=false",
            "more",
            &format!("docker://{}", image("more")),
        ],
    );
    buildah(&w, &["rm", "--all"]);
    w.pocker(&["pull", &image("more"), "other"]).ok();
    assert_eq!(
        w.pocker(&["run", "other", "--", "/bin/cat", "/srv/one"])
            .ok()
            .out,
        "first\n"
    );

    // FROM: by a tag, which is asked each time, and by a digest, which is not.
    let create = |from: &str| {
        w.write(
            "P",
            &format!(
                "FROM {from}\nEXEC echo $GREETING >/srv/sticky/g\nRUN cat /srv/sticky/g; id -u\n"
            ),
        );
        w.pocker(&["create", "-f", "P", "built"])
    };
    create(&image("web:v1")).ok();
    assert_eq!(w.pocker(&["run", "built"]).ok().out, "hello there\n33\n");
    assert_eq!(
        create(&image("web:v1")).ok().err.matches("cached").count(),
        3
    );
    // What was pulled is the step that its digest makes.
    let first = create(pushed).ok().err;
    assert!(
        first.lines().nth(1).is_some_and(|l| l.contains("cached")),
        "{first}"
    );
    w.pocker(&["push", "copied", &image("web:v1")]).ok();
    w.pocker(&["push", "built", &image("web:v1")]).ok();
    assert!(create(&image("web:v1")).ok().err.contains("built in"));
    drop(registry);
    assert_eq!(create(pushed).ok().err.matches("cached").count(), 3);
}

#[test]
fn a_registry_that_fails_is_one_clear_error() {
    let w = World::new();
    w.create(
        "a",
        "EXEC head -c 3000000 /dev/urandom >/large\nRUN echo it runs\n",
    )
    .ok();
    let registry = Registry::start(&w, false);
    let address = registry.address.clone();
    let image = format!("{address}/app:v1");
    let mut said = String::new();
    let mut fails = |what: &str, args: &[&str], words: &[&str]| {
        let done = w.pocker(args).fails(words).err;
        assert_eq!(
            (
                done.matches("error: ").count(),
                done.matches("hint: ").count()
            ),
            (1, 1),
            "{done}"
        );
        said.push_str(&format!("{what}\n{done}\n"));
        assert!(
            !w.pocker(&["ls"]).ok().out.contains("pulled"),
            "{what}: half-visible"
        );
        w.pocker(&["fsck"]).ok();
    };
    let pull = |image: &str| {
        [
            "pull".to_owned(),
            "--timeout".to_owned(),
            "1".to_owned(),
            image.to_owned(),
            "pulled".to_owned(),
        ]
    };
    let mut pulls = |what: &str, image: &str, words: &[&str]| {
        let args = pull(image);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        fails(what, &args, words);
    };
    pulls("nothing of that name", &image, &["has no"]);
    w.pocker(&["push", "a", &image]).ok();

    // Bytes that are not the digest's.
    let blobs = w.path("registry/docker/registry/v2/blobs/sha256");
    let find = |least: u64, most: u64| {
        let all = std::fs::read_dir(&blobs)
            .expect("blobs")
            .flat_map(|d| std::fs::read_dir(d.expect("an entry").path()).expect("dir"));
        let mut data = all.map(|e| e.expect("an entry").path().join("data"));
        data.find(|p| (least..most).contains(&std::fs::metadata(p).expect("data").len()))
            .expect("a blob")
    };
    let layer = find(1_000_000, u64::MAX);
    let whole = std::fs::read(&layer).expect("layer");
    let mut other = whole.clone();
    let middle = other.len() / 2;
    other[middle] ^= 1;
    std::fs::write(&layer, &other).expect("write");
    pulls("a layer that was changed", &image, &["hint: "]);
    std::fs::write(&layer, &whole[..middle]).expect("write");
    pulls("half a layer", &image, &["hint: "]);
    std::fs::write(&layer, &whole).expect("write");
    w.pocker(&["pull", &image, "fine"]).ok();
    w.pocker(&["rm", "fine"]).ok();

    drop(registry);
    pulls("down", &image, &["cannot reach"]);
    // Takes connections and says nothing.
    let silent = again(&address);
    pulls("silent", &image, &["said nothing for 1 s", "--timeout"]);
    fails(
        "silent at a push",
        &["push", "--timeout", "1", "a", &image],
        &["said nothing for 1 s"],
    );
    drop(silent);
    // Gives what it has, and breaks off or stands still in the middle of the layer.
    for (how, stall, words) in [
        ("broke off", false, "broke off"),
        ("stood still", true, "said nothing for 1 s"),
    ] {
        let half = Half::start(&address, &blobs, whole.len(), stall);
        let args = pull(&image);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        fails(how, &args, &[words]);
        half.end(&address);
    }
    w.write("P", &format!("FROM {image}\nRUN x\n"));
    fails(
        "FROM",
        &["create", "-f", "P", "pulled"],
        &["line 1: FROM", "cannot reach"],
    );
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"127\.0\.0\.1:\d+", "HOST");
    settings.add_filter(r"[0-9a-f]{64}", "DIGEST");
    settings.bind(|| insta::assert_snapshot!(said));

    // The retry works.
    let registry = Registry::start(&w, false);
    let image = format!("{}/app:v1", registry.address);
    w.pocker(&["pull", &image, "pulled"]).ok();
    assert_eq!(w.pocker(&["run", "pulled"]).ok().out, "it runs\n");
}

/// Answers from a registry's storage, but for large blobs, of which half comes.
struct Half {
    thread: std::thread::JoinHandle<()>,
}

/// A port that was ours: meanwhile somebody's connection may have been given it.
fn again(address: &str) -> TcpListener {
    let mut bound = None;
    until("the port is free again", || {
        bound = TcpListener::bind(address).ok();
        bound.is_some()
    });
    bound.expect("the port again")
}

impl Half {
    fn start(address: &str, blobs: &std::path::Path, large: usize, stall: bool) -> Half {
        let listener = again(address);
        let blobs = blobs.to_owned();
        let thread = std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        break;
                    }
                    request.push(byte[0]);
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                let path = text.split(' ').nth(1).unwrap_or_default();
                if path == "/end" {
                    return;
                }
                answer(&mut stream, &blobs, text.starts_with("HEAD"), path, large);
                if stall {
                    open.push(stream);
                }
            }
        });
        Half { thread }
    }

    fn end(self, address: &str) {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream
            .write_all(b"GET /end HTTP/1.0\r\n\r\n")
            .expect("written");
        self.thread.join().expect("it ends");
    }
}

fn answer(stream: &mut TcpStream, blobs: &std::path::Path, head: bool, path: &str, large: usize) {
    // The tag's manifest is the blob that names others.
    let digest = match path.rsplit_once("sha256:") {
        Some((_, digits)) => Some(digits.to_owned()),
        None if path.contains("/manifests/") => manifest(blobs),
        None => None,
    };
    let Some(digits) = digest else {
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    let bytes = std::fs::read(blobs.join(&digits[..2]).join(&digits).join("data")).expect("a blob");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let _ = stream.write_all(
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nDocker-Content-Digest: sha256:{digits}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            bytes.len()
        )
        .as_bytes(),
    );
    if !head {
        let most = if bytes.len() >= large {
            bytes.len() / 2
        } else {
            bytes.len()
        };
        let _ = stream.write_all(&bytes[..most]);
    }
}

fn manifest(blobs: &std::path::Path) -> Option<String> {
    for dir in std::fs::read_dir(blobs).ok()? {
        for blob in std::fs::read_dir(dir.ok()?.path()).ok()? {
            let path = blob.ok()?.path();
            let bytes = std::fs::read(path.join("data")).ok()?;
            if bytes.windows(13).any(|part| part == b"schemaVersion") {
                return Some(path.file_name()?.to_str()?.to_owned());
            }
        }
    }
    None
}

#[test]
fn a_password_is_taken_from_where_others_keep_it_and_shown_nowhere() {
    let w = World::new();
    w.create("a", "RUN echo it runs\n").ok();
    let registry = Registry::start(&w, true);
    let image = format!("{}/app:v1", registry.address);
    let home = w.path("home");
    std::fs::create_dir_all(home.join(".docker")).expect("mkdir");
    let run = |args: &[&str]| {
        let mut command = w.command(args);
        command
            .env("HOME", &home)
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("REGISTRY_AUTH_FILE");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        crate::support::wait(command.spawn().expect("pocker starts"))
    };
    run(&["push", "a", &image]).fails(&["wants a password", "hint: ", "podman login"]);
    let login = |password: &str| {
        use base64::Engine;
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("somebody:{password}"));
        let text = format!(
            "{{\"auths\": {{\"{}\": {{\"auth\": \"{auth}\"}}}}}}",
            registry.address
        );
        w.write("home/.docker/config.json", &text);
        auth
    };
    login("wrong-word");
    let refused = run(&["push", "a", &image]).fails(&["wants a password", "hint: "]);
    assert!(!refused.err.contains("wrong-word"), "{}", refused.err);
    let auth = login("s3cret-word");
    run(&["push", "a", &image]).ok();
    let said = run(&["pull", &image, "b"]).ok();
    let log = std::fs::read_to_string(w.path("s/serve.log")).expect("the server's log");
    for text in [&said.out, &said.err, &log] {
        assert!(
            !text.contains("s3cret-word") && !text.contains(&auth),
            "{text}"
        );
    }
    assert_eq!(w.pocker(&["run", "b"]).ok().out, "it runs\n");
    w.write("home/.docker/config.json", "{broken");
    run(&["pull", &image, "c"]).fails(&["config.json", "hint: "]);
}
