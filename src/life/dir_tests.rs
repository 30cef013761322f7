use super::*;
use crate::life::file::FILE_MAX;

fn asked(pocker: &str) -> Asked<'_> {
    Asked {
        pocker,
        name: None,
        detached: true,
        remove: false,
        boot: false,
        keep: false,
        words: Words::default(),
        dir: PathBuf::from("/"),
        now: 1,
    }
}

fn named<'a>(pocker: &'a str, name: &'a str) -> Asked<'a> {
    Asked {
        name: Some(name),
        ..asked(pocker)
    }
}

fn runs() -> (tempfile::TempDir, Runs) {
    let dir = tempfile::tempdir().expect("a directory");
    let runs = Runs::of(dir.path());
    (dir, runs)
}

fn end(status: i32) -> End {
    End {
        status,
        at: 2,
        error: None,
    }
}

#[test]
fn a_run_that_ended_while_it_was_looked_at_is_not_lost() {
    let (_dir, runs) = runs();
    let mut run = runs.begin(asked("web")).expect("begun");
    run.state.supervisor.start = Some(1);
    run.save_state().expect("saved");
    let mut seen = run.clone();
    assert!(seen.lost().is_some());
    run.finish(end(0)).expect("finished");
    seen.state.phase = Phase::Running;
    assert!(seen.lost().is_none());
    assert_eq!(runs.sweep(3).expect("swept").runs, Vec::<String>::new());
}

#[test]
fn a_renamed_run_keeps_its_volume_and_no_other_gets_it() {
    let (_dir, runs) = runs();
    let keeping = |name| Asked {
        keep: true,
        ..named("web", name)
    };
    let mut first = runs.begin(keeping("a")).expect("begun");
    assert_eq!(first.record.kept.as_deref(), Some("a.kept"));
    let renamed = runs.rename("a", "b").expect("renamed");
    assert_eq!(renamed.record.kept, first.record.kept);
    first.finish(end(0)).expect("finished");
    let refused = runs.begin(keeping("a")).expect_err("another's tree");
    assert!(matches!(refused, LifeError::Kept { .. }), "{refused}");
    let mut plain = runs.begin(named("web", "a")).expect("it needs no volume");
    plain.finish(end(0)).expect("finished");
    // Who replaces it may have what it had.
    let other = runs.begin(keeping("b")).expect("begun");
    runs.replace_by(&other).expect("replaced");
    runs.begin(keeping("a")).expect("begun");
}

#[test]
fn names_are_one_live_runs_each_and_an_ended_ones_are_free() {
    let (_dir, runs) = runs();
    let mut first = runs.begin(asked("web")).expect("begun");
    assert_eq!(first.record.name, "web");
    let second = runs.begin(asked("web")).expect("begun");
    assert_eq!(second.record.name, "web-2");
    let refused = runs.begin(named("web", "web-2")).expect_err("taken");
    assert!(matches!(refused, LifeError::InUse { .. }));
    first.finish(end(3)).expect("finished");
    // One in the foreground leaves an ended one's log alone.
    let front = Asked {
        detached: false,
        ..asked("web")
    };
    assert_eq!(runs.begin(front).expect("begun").record.name, "web-3");
    assert_eq!(runs.all().expect("listed").len(), 3);
    let again = runs.begin(asked("web")).expect("begun");
    assert_eq!(again.record.name, "web");
    assert_ne!(again.record.id, first.record.id);
    assert!(runs.begin(named("web", "No")).is_err());
}

#[test]
fn an_ended_run_is_replaced_by_one_that_runs_and_by_none_that_failed_to() {
    let (_dir, runs) = runs();
    let mut old = runs.begin(asked("web")).expect("begun");
    old.state.starts = 1;
    old.finish(end(3)).expect("finished");
    let mut failed = runs.begin(asked("web")).expect("begun");
    assert_eq!(
        runs.find("web").expect("the live one").record.id,
        failed.record.id
    );
    failed.give_up(end(125)).expect("given up");
    let there = runs.find("web").expect("the old one");
    assert_eq!(
        (there.record.id, there.state.end),
        (old.record.id.clone(), Some(end(3)))
    );
    let bystander = runs.begin(named("web", "other")).expect("begun");
    let new = runs.begin(asked("web")).expect("begun");
    runs.replace_by(&new).expect("replaced");
    assert!(old.again().is_none() && bystander.again().is_some() && new.again().is_some());
}

#[test]
fn a_run_is_found_by_name_id_and_its_beginning() {
    let (_dir, runs) = runs();
    let one = runs.begin(named("web", "one")).expect("begun");
    let id = &one.record.id;
    for text in ["one", id, &id[..6]] {
        assert_eq!(&runs.find(text).expect("found").record.id, id);
    }
    for text in ["two", &id[..3], "../x", ""] {
        assert!(
            matches!(runs.find(text), Err(LifeError::Unknown(_))),
            "{text}"
        );
    }
    runs.begin(named("web", "two")).expect("begun");
    assert!(runs.rename("one", "two").is_err());
    assert_eq!(runs.rename("one", "three").expect("renamed").record.id, *id);
    assert!(runs.find("one").is_err());
    assert_eq!(&runs.find("three").expect("found").record.id, id);
}

#[test]
fn the_end_is_told_to_who_holds_it_also_once_all_is_removed() {
    let (_dir, runs) = runs();
    let mut run = runs
        .begin(Asked {
            remove: true,
            ..asked("web")
        })
        .expect("begun");
    let exit = run.exit().expect("opened");
    assert_eq!(exit.status(), None);
    run.finish(end(7)).expect("finished");
    assert_eq!(exit.status(), Some(7));
    assert!(runs.all().expect("listed").is_empty());
}

#[test]
fn exactly_what_dead_supervisors_left_is_swept() {
    let (dir, runs) = runs();
    let live = runs.begin(named("web", "live")).expect("begun");
    let mut dead = runs.begin(named("web", "dead")).expect("begun");
    let mut other = runs.begin(named("web", "other-boot")).expect("begun");
    let mut ended = runs.begin(named("web", "ended")).expect("begun");
    ended.finish(end(0)).expect("finished");
    let (mine, full, theirs) = (
        dir.path().join("mine"),
        dir.path().join("full"),
        dir.path().join("theirs"),
    );
    for made in [&mine, &full, &theirs] {
        std::fs::create_dir(made).expect("made");
    }
    std::fs::write(full.join("in-use"), "").expect("written");
    // The pid is this process's, and it started at another time.
    dead.state.supervisor.start = dead.state.supervisor.start.map(|s| s + 1);
    dead.state.stage = Some(dead.state.supervisor);
    dead.state.cgroups = vec![mine.clone(), full.clone()];
    dead.save_state().expect("saved");
    other.state.boot = "another".to_owned();
    other.state.cgroups = vec![theirs.clone()];
    other.state.stage = Some(Started::me());
    other.save_state().expect("saved");
    std::fs::create_dir(dir.path().join("runs/.new-0")).expect("made");
    std::fs::create_dir(dir.path().join("runs/.gone-0")).expect("made");
    let mut found = runs.sweep(9).expect("swept");
    found.runs.sort();
    assert_eq!(found.runs, ["dead", "other-boot"]);
    assert_eq!(found.cgroups, std::slice::from_ref(&mine));
    assert!(!mine.exists() && full.exists() && theirs.exists());
    assert!(live.again().expect("there").live());
    assert_eq!(ended.again().expect("there").state.end, Some(end(0)));
    let dead = dead.again().expect("there").state.end.expect("ended");
    assert!(dead.status == 137 && dead.error.expect("why").contains("killed"));
    let other = other.again().expect("there").state.end.expect("ended");
    assert!(other.error.expect("why").contains("machine"));
    assert_eq!(runs.sweep(10).expect("swept"), Found::default());
    let left = std::fs::read_dir(dir.path().join("runs")).expect("listed");
    assert_eq!(left.count(), 5, "four runs and the lock");
}

#[test]
fn a_run_is_taken_over_once_and_begun_again_only_when_ended() {
    let (_dir, runs) = runs();
    let mut run = runs.begin(asked("web")).expect("begun");
    run.take_over(&runs).expect("taken over");
    assert!(matches!(run.begin_again(&runs), Err(LifeError::Taken(_))));
    run.state.starts = 1;
    run.state.phase = Phase::Running;
    run.save_state().expect("saved");
    assert!(matches!(run.take_over(&runs), Err(LifeError::Taken(_))));
    run.finish(end(1)).expect("finished");
    assert!(matches!(run.take_over(&runs), Err(LifeError::Taken(_))));
    run.begin_again(&runs).expect("begun again");
    assert!(run.exit().expect("opened").status().is_none());
    // It ran once: that it does not now is no reason to forget it.
    run.take_over(&runs).expect("taken over");
    run.give_up(end(125)).expect("given up");
    assert_eq!(run.again().expect("there").state.end, Some(end(125)));
    let mut new = runs.begin(named("web", "new")).expect("begun");
    new.give_up(end(125)).expect("given up");
    assert!(new.again().is_none());
}

#[test]
fn files_that_are_none_of_ours_are_left_out() {
    let (dir, runs) = runs();
    let run = runs.begin(asked("web")).expect("begun");
    let at = dir.path().join("runs");
    for (name, text) in [("bad", "{"), ("other", "null"), ("0123456789ax", "{")] {
        std::fs::create_dir(at.join(name)).expect("made");
        std::fs::write(at.join(name).join(RECORD), text).expect("written");
    }
    let large = at.join("large");
    std::fs::create_dir(&large).expect("made");
    std::fs::copy(run.dir().join(STATE), large.join(STATE)).expect("copied");
    let mut text = std::fs::read(run.dir().join(RECORD)).expect("read");
    text.resize(FILE_MAX as usize + 1, b' ');
    std::fs::write(large.join(RECORD), text).expect("written");
    assert_eq!(runs.all().expect("listed").len(), 1);
    // One that has a run's name is a run, whatever is in it.
    let odd = at.join("0123456789ab");
    std::fs::rename(&large, &odd).expect("renamed");
    let odd = runs.find("0123").expect("found");
    assert_eq!(
        (odd.record.name.as_str(), odd.damaged),
        ("0123456789ab", Some(RECORD))
    );
    assert!(odd.live(), "its state is another's, and whole");
    assert!(matches!(
        runs.rename("0123", "new"),
        Err(LifeError::Damaged { .. })
    ));
    use std::os::unix::fs::PermissionsExt;
    for name in [RECORD, STATE, EXIT] {
        let mode = run
            .dir()
            .join(name)
            .metadata()
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_state_that_cannot_be_read_is_what_its_supervisor_makes_of_it() {
    let (_dir, runs) = runs();
    let mut run = runs.begin(asked("web")).expect("begun");
    let path = run.dir().join(STATE);
    for damage in ["", "{", "[1]"] {
        std::fs::write(&path, damage).expect("written");
        let seen = runs.find("web").expect("found");
        assert_eq!(
            (seen.damaged, seen.state.phase),
            (Some(STATE), Phase::Damaged)
        );
        assert!(seen.live() && !seen.state.unknown());
        assert_eq!(runs.sweep(3).expect("swept"), Found::default());
        assert!(
            runs.begin(named("web", "web")).is_err(),
            "its name is in use"
        );
    }
    std::fs::remove_file(&path).expect("removed");
    assert!(runs.find("web").expect("found").live());
    // Whoever answers for it is gone.
    run.state.supervisor.start = Some(1);
    run.save_owner().expect("saved");
    std::fs::write(&path, "{").expect("written");
    assert_eq!(runs.sweep(4).expect("swept").runs, ["web"]);
    let ended = runs.find("web").expect("found");
    assert_eq!((ended.damaged, ended.state.phase), (None, Phase::Ended));
    assert!(
        ended
            .state
            .end
            .and_then(|end| end.error)
            .expect("why")
            .contains("state.json")
    );
    // Nobody knows who that is: it is not said to have ended.
    std::fs::write(&path, "{").expect("written");
    std::fs::write(run.dir().join(OWNER), "{").expect("written");
    assert_eq!(runs.sweep(5).expect("swept"), Found::default());
    let seen = runs.find("web").expect("found");
    assert!(seen.state.unknown() && !seen.live());
    seen.remove().expect("forgotten");
    assert!(runs.all().expect("listed").is_empty());
}

#[test]
fn a_run_begins_again_as_it_was_recorded_and_is_kept_where_it_does_not() {
    let (_dir, runs) = runs();
    let mut run = runs.begin(asked("web")).expect("begun");
    assert!(matches!(
        runs.begin_recorded(run.record.clone()),
        Err(LifeError::InUse { .. })
    ));
    run.state.starts = 1;
    run.finish(end(3)).expect("finished");
    let mut again = runs.begin_recorded(run.record.clone()).expect("begun");
    assert!(again.live() && again.dir() == run.dir());
    again.give_up(end(125)).expect("given up");
    assert_eq!(runs.find("web").expect("there").state.end, Some(end(125)));
    // Another run of its name is left until this one runs, too.
    run.remove().expect("removed");
    let mut other = runs.begin(asked("web")).expect("begun");
    other.state.starts = 1;
    other.finish(end(4)).expect("finished");
    let mut new = runs.begin_recorded(run.record.clone()).expect("begun");
    new.give_up(end(125)).expect("given up");
    assert_eq!(runs.find("web").expect("there").record.id, other.record.id);
}
