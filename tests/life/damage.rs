//! Files of a run that cannot be read: it is still listed, and can be ended and forgotten.

use crate::support::until;
use crate::{detach, ended, inspect, json, kill_dead, live, lives, pid, supervisor, world};
use std::path::PathBuf;

fn file(run: &serde_json::Value, name: &str) -> PathBuf {
    let dir = run["files"].as_str().expect("a path");
    PathBuf::from(dir).join(name)
}

#[test]
fn a_run_whose_state_is_damaged_is_seen_and_ended() {
    let w = world();
    for (nth, damage) in ["", "{", "null", "\0\0\0\0"].iter().enumerate() {
        let name = detach(&w, &["--memory", "64M"]);
        let whole = inspect(&w, &name);
        std::fs::write(file(&whole, "state.json"), damage).expect("written");
        let listed = w.pocker(&["ps"]).ok();
        assert!(
            listed.out.contains("damaged: its state.json"),
            "{}",
            listed.out
        );
        let now = inspect(&w, &name);
        assert_eq!(now["state"], "damaged");
        assert_eq!(now["supervisor"], whole["supervisor"]);
        for args in [
            &["exec", &name, "true"][..],
            &["top", &name],
            &["kill", "-s", "HUP", &name],
        ] {
            w.pocker(args)
                .fails(&["is damaged: its state.json", "hint: "]);
        }
        w.pocker(&["prune", &name])
            .fails(&["has not ended", "hint: "]);
        w.pocker(&["run", "--name", &name, "box", "--", "true"])
            .fails(&["there already"]);
        let command = pid(&whole["pid"]);
        match nth {
            // What its supervisor writes next is whole again.
            0 => {
                w.pocker(&["stop", &name]).ok();
                assert_eq!(ended(&w, &name), 7);
            }
            1 => {
                w.pocker(&["kill", &name]).ok();
                assert_eq!(ended(&w, &name), 137);
            }
            2 => {
                w.pocker(&["restart", &name]).ok();
                let again = inspect(&w, &name);
                assert_eq!(again["state"], "running");
                assert_ne!(again["pid"], whole["pid"]);
                w.pocker(&["kill", &name]).ok();
            }
            _ => {
                kill_dead(supervisor(&w, &name));
                assert_eq!(ended(&w, &name), 137);
                let why = inspect(&w, &name)["end"]["error"].to_string();
                assert!(why.contains("state.json could not be read"), "{why}");
            }
        }
        until("its command is gone", || !lives(command));
        w.pocker(&["prune", &name]).ok();
        assert_eq!(json(&w, &["ps", "-a", "--json"]), serde_json::json!([]));
    }
    crate::no_groups(&w);
}

#[test]
fn a_run_of_which_nothing_can_be_read_is_seen_and_forgotten() {
    let w = world();
    let name = detach(&w, &[]);
    let whole = inspect(&w, &name);
    for file_name in ["state.json", "supervisor.json"] {
        std::fs::write(file(&whole, file_name), "garbage").expect("written");
    }
    let listed = w.pocker(&["ps"]).ok().out;
    assert!(listed.contains("damaged"), "{listed}");
    for command in ["stop", "kill", "restart"] {
        w.pocker(&[command, &name])
            .fails(&["is damaged", "pocker prune"]);
    }
    // It goes by its id where its record cannot be read either.
    let id = whole["id"].as_str().expect("an id");
    std::fs::write(file(&whole, "run.json"), "").expect("written");
    let listed = json(&w, &["ps", "--json"]);
    assert_eq!(
        (&listed[0]["name"], &listed[0]["state"]),
        (&whole["id"], &"damaged".into())
    );
    w.pocker(&["rename", id, "other"])
        .fails(&["run.json", "hint: "]);
    w.pocker(&["prune", id]).ok();
    assert_eq!(json(&w, &["ps", "-a", "--json"]), serde_json::json!([]));
    kill_dead(pid(&whole["supervisor"]));
    // One of which only the record is damaged is ended by its id.
    let name = detach(&w, &[]);
    let whole = inspect(&w, &name);
    std::fs::write(file(&whole, "run.json"), "{").expect("written");
    let id = whole["id"].as_str().expect("an id");
    assert_eq!(live(&w), [id]);
    w.pocker(&["exec", id, "true"]).fails(&["record", "hint: "]);
    w.pocker(&["stop", id]).ok();
    assert!(live(&w).is_empty());
    until("its command is gone", || !lives(pid(&whole["pid"])));
}
