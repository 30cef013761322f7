//! The same random operations on a model, in the store, over the wire and in a mount: all
//! four answer alike and hold the same tree, over killed servers, seals and clones.

mod kept;
mod kernel;
mod mount;
#[path = "../support/mod.rs"]
mod support;
mod wire;

use mount::MountSide;
use pocker_store::types::Digest;
use pocker_testing::language::{Step, at, populate, steps};
use pocker_testing::model::Model;
use pocker_testing::seed;
use pocker_testing::side::{Side, Together};
use pocker_testing::store_side::{Bench, StoreSide};
use proptest::test_runner::TestRunner;
use std::cell::RefCell;
use std::collections::BTreeMap;
use support::server::Server;
use wire::WireSide;

/// What every case begins with.
struct Base {
    model: Model,
    store: Option<Digest>,
    server: String,
}

fn base(bench: &mut Bench, server: &Server) -> Base {
    let (model, snapshot) = {
        let store = Box::new(StoreSide::new(bench, None));
        let mut w = Together::new(Model::new(at(1)), vec![store]);
        populate(&mut w);
        w.seal();
        (w.model.clone(), {
            let mut wire = WireSide::new(server, None);
            let model = Model::new(at(1));
            let mut w = Together::new(model, vec![Box::new(Borrowed(&mut wire))]);
            populate(&mut w);
            w.same("populated");
            drop(w);
            wire.sealed()
        })
    };
    Base {
        model,
        store: bench.last_sealed(),
        server: snapshot,
    }
}

/// A side that is still needed afterwards.
struct Borrowed<'a, 'b>(&'a mut WireSide<'b>);

impl Side for Borrowed<'_, '_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn make(
        &mut self,
        turn: &pocker_testing::side::Turn<'_>,
    ) -> Result<(), pocker_store::types::Errno> {
        self.0.make(turn)
    }
    fn look(&mut self, model: &Model) -> BTreeMap<Vec<u8>, pocker_testing::side::Seen> {
        self.0.look(model)
    }
    fn seal(&mut self) {
        self.0.seal();
    }
}

/// What is done between a clone of the base and its end.
fn case(
    bench: &mut Bench,
    server: &Server,
    base: &Base,
    run: impl FnOnce(&mut Together<'_>),
) -> BTreeMap<&'static str, usize> {
    let mut store = StoreSide::new(bench, base.store);
    store.find_numbers(&base.model);
    let mut wire = WireSide::new(server, Some(&base.server));
    wire.find_handles(&base.model);
    let mount = MountSide::new(server, Some(&base.server));
    let sides: Vec<Box<dyn Side>> = vec![Box::new(store), Box::new(wire), Box::new(mount)];
    let mut w = Together::new(base.model.clone(), sides);
    w.restart = Box::new(|| server.restart());
    run(&mut w);
    w.same("before it is sealed");
    w.seal();
    w.finish();
    std::mem::take(&mut w.departed)
}

#[test]
fn model_store_wire_and_mount_answer_alike() {
    let (mut bench, server) = (Bench::new(), Server::start());
    let base = base(&mut bench, &server);
    let kept = case(&mut bench, &server, &base, kept::run);
    let bench = RefCell::new(bench);
    let departed = RefCell::new(kept);
    TestRunner::new(seed::config(12, "proptest-regressions/operations.txt"))
        .run(&steps(80), |steps| {
            let bench = &mut bench.borrow_mut();
            let met = case(bench, &server, &base, |w| {
                steps.iter().for_each(|step: &Step| w.step(step));
            });
            for (reason, times) in met {
                *departed.borrow_mut().entry(reason).or_default() += times;
            }
            Ok(())
        })
        .unwrap();
    for (reason, times) in departed.borrow().iter() {
        println!("{times:5} times: {reason}");
    }
}
