//! Passwords for registries, from the files that other tools keep them in. They are in no
//! argument, no message and no log.

use super::{Name, RegistryError};
use base64::Engine;
use serde::Deserialize;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A file longer than this is none of those.
const FILE_MAX: u64 = 1 << 20;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: HashMap<String, Entry>,
    cred_helpers: HashMap<String, String>,
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
}

/// User and password.
pub type Login = (String, String);

/// In the order in which the tools look themselves.
fn files() -> Vec<PathBuf> {
    let dir = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let home = dir("HOME");
    let mut all = Vec::new();
    all.extend(dir("REGISTRY_AUTH_FILE"));
    all.extend(dir("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json")));
    let uid = nix::unistd::getuid();
    all.push(PathBuf::from(format!("/run/containers/{uid}/auth.json")));
    let config = dir("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|h| h.join(".config")));
    all.extend(config.map(|d| d.join("containers/auth.json")));
    let docker = dir("DOCKER_CONFIG").or_else(|| home.map(|h| h.join(".docker")));
    all.extend(docker.map(|d| d.join("config.json")));
    all
}

pub fn find(name: &Name) -> Result<Option<Login>, RegistryError> {
    for path in files() {
        if let Some(file) = read(&path)?
            && let Some(login) = of(&file, name, &path)?
        {
            return Ok(Some(login));
        }
    }
    Ok(None)
}

fn broken(path: &Path, why: &str) -> RegistryError {
    RegistryError::new(
        format!("{} cannot be read for passwords: {why}", path.display()),
        "log in again with `podman login` or `docker login`, or move the file away",
    )
}

fn read(path: &Path) -> Result<Option<File>, RegistryError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(broken(path, &e.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(FILE_MAX)
        .read_to_end(&mut bytes)
        .map_err(|e| broken(path, &e.to_string()))?;
    // What the parser quotes could be a password.
    let file =
        serde_json::from_slice(&bytes).map_err(|_| broken(path, "it is not what it should be"))?;
    Ok(Some(file))
}

/// The most particular first: an image's own, its folders', its registry's.
fn keys(name: &Name) -> Vec<String> {
    let mut keys = vec![format!("{}/{}", name.host(), name.repository())];
    while let Some((shorter, _)) = keys.last().and_then(|key| key.rsplit_once('/')) {
        keys.push(shorter.to_owned());
    }
    if name.host() == "docker.io" {
        keys.push("index.docker.io".to_owned());
    }
    keys
}

/// Keys as docker writes them, too: an address, with the version of the API.
fn plain(key: &str) -> &str {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1")
        .or_else(|| key.strip_suffix("/v2"))
        .unwrap_or(key)
}

fn of(file: &File, name: &Name, path: &Path) -> Result<Option<Login>, RegistryError> {
    for key in keys(name) {
        let helper = file
            .cred_helpers
            .iter()
            .find(|(known, _)| plain(known) == key);
        if let Some((known, helper)) = helper {
            return ask(helper, known).map(Some);
        }
        let entry = file.auths.iter().find(|(known, _)| plain(known) == key);
        let Some((known, entry)) = entry else {
            continue;
        };
        if !entry.username.is_empty() {
            return Ok(Some((entry.username.clone(), entry.password.clone())));
        }
        if !entry.auth.is_empty() {
            let bytes = base64::engine::general_purpose::STANDARD.decode(&entry.auth);
            let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let login = text.as_deref().and_then(|text| text.split_once(':'));
            let (user, password) =
                login.ok_or_else(|| broken(path, "an entry has no user and password"))?;
            return Ok(Some((user.to_owned(), password.to_owned())));
        }
        if !file.creds_store.is_empty() {
            return ask(&file.creds_store, known).map(Some);
        }
    }
    Ok(None)
}

/// Asks a program that keeps passwords (`docker-credential-*`).
fn ask(helper: &str, server: &str) -> Result<Login, RegistryError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Said {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{helper}");
    let failed = |why: String| {
        RegistryError::new(
            format!("{program}, which keeps the password for {server}, gave none: {why}"),
            format!("`podman login {server}` keeps one in a file"),
        )
    };
    if helper.contains('/') {
        return Err(failed("its name is a path".to_owned()));
    }
    let mut command = Command::new(&program);
    command
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(server.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|e| failed(e.to_string()))?;
    let said: Option<Said> = serde_json::from_slice(&output.stdout).ok();
    match said {
        Some(said) if output.status.success() => Ok((said.username, said.secret)),
        _ => Err(failed("it failed".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str, name: &str) -> Option<Login> {
        let file: File = serde_json::from_str(text).expect("JSON");
        of(
            &file,
            &Name::parse(name).expect("an image"),
            Path::new("auth.json"),
        )
        .expect("read")
    }

    #[test]
    fn the_most_particular_entry_counts() {
        // "u:p" and "v:q:r".
        let text = r#"{"auths": {
            "https://r.example:5000/v2/": {"auth": "dTpw"}, "r.example:5000/team": {"auth": "djpxOnI="},
            "https://index.docker.io/v1/": {"username": "w", "password": "x"}, "other.example": {}},
            "credHelpers": {}, "HttpHeaders": {"User-Agent": "x"}}"#;
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(login(text, "r.example:5000/app:v1"), pair("u", "p"));
        assert_eq!(login(text, "r.example:5000/team/app"), pair("v", "q:r"));
        assert_eq!(login(text, "docker.io/library/debian"), pair("w", "x"));
        assert_eq!(login(text, "other.example/app"), None);
        assert_eq!(login(text, "r.example/app"), None);
    }

    #[test]
    fn a_file_that_is_wrong_is_named_and_not_quoted() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("auth.json");
        for wrong in [r#"{"auths": "s3cret"}"#, "s3cret"] {
            std::fs::write(&path, wrong).expect("written");
            let error = read(&path).err().expect("wrong").to_string();
            assert!(
                error.contains("auth.json") && !error.contains("s3cret"),
                "{error}"
            );
        }
        assert!(read(&dir.path().join("absent")).expect("no file").is_none());
    }
}
