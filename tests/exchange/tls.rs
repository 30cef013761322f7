//! docker-registry with TLS, whose certificate an authority of the test's own has signed.

use crate::registry::Registry;
use crate::support::World;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::process::Stdio;

fn authority(w: &World, file: &str) -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().expect("a key");
    w.write(file, &params.self_signed(&key).expect("signed").pem());
    Issuer::new(params, key)
}

#[test]
fn a_registry_with_a_certificate_of_its_own() {
    let w = World::new();
    w.create("a", "RUN echo it runs\n").ok();
    let ours = authority(&w, "ca.pem");
    authority(&w, "other.pem");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &ours).expect("signed");
    w.write("cert.pem", &certificate.pem());
    w.write("key.pem", &key.serialize_pem());
    let dir = w.dir.path().display();
    let tls = format!(", tls: {{certificate: {dir}/cert.pem, key: {dir}/key.pem}}");
    let registry = Registry::with(&w, &tls, "");
    let image = format!("{}/team/app:v1", registry.address);
    let ca = |file: &'static str| ["--ca", file];

    let push = |more: &[&str]| {
        let mut args = vec!["push", "a", &image];
        args.extend(more);
        w.pocker(&args)
    };
    let pull = |more: &[&str]| {
        let mut args = vec!["pull", &image, "b"];
        args.extend(more);
        w.pocker(&args)
    };
    for (file, words) in [
        (
            "other.pem",
            ["cannot reach the registry", "certificate", "--ca FILE"],
        ),
        (
            "key.pem",
            ["key.pem holds no certificate", "hint: ", "--ca"],
        ),
        ("absent.pem", ["absent.pem", "No such file", "hint: "]),
    ] {
        for done in [push(&ca(file)), pull(&ca(file))] {
            let said = done.fails(&words).err;
            assert_eq!(said.matches("error: ").count(), 1, "{said}");
            assert!(said.lines().count() <= 2, "{said}");
        }
    }
    pull(&[]).fails(&["speaks TLS", "hint: --ca FILE"]);
    push(&ca("ca.pem")).ok();
    pull(&ca("ca.pem")).ok();
    assert_eq!(w.pocker(&["run", "b"]).ok().out, "it runs\n");
    // A build has it from its environment, as the package tools have.
    w.write("P", &format!("FROM {image}\nRUN echo built on it\n"));
    let mut create = w.command(&["create", "-f", "P", "built"]);
    create.env("POCKER_CA", w.path("ca.pem"));
    create.stdout(Stdio::piped()).stderr(Stdio::piped());
    crate::support::wait(create.spawn().expect("it starts")).ok();
    assert_eq!(w.pocker(&["run", "built"]).ok().out, "built on it\n");
}
