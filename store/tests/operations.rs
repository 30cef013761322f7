//! Any sequence of operations: the tree and the model say the same, before and after
//! a restart and a seal.

use pocker_testing::language::{at, populate, steps};
use pocker_testing::model::Model;
use pocker_testing::seed;
use pocker_testing::side::Together;
use pocker_testing::store_side::{Bench, StoreSide};
use proptest::test_runner::TestRunner;
use std::cell::{Cell, RefCell};

#[test]
fn a_work_tree_is_posix() {
    let bench = RefCell::new(Bench::new());
    let (base, model) = {
        let mut bench = bench.borrow_mut();
        let side = StoreSide::new(&mut bench, None);
        let mut w = Together::new(Model::new(at(1)), vec![Box::new(side)]);
        populate(&mut w);
        w.same("populated");
        w.seal();
        let model = w.model.clone();
        drop(w);
        (bench.last_sealed(), model)
    };
    let case = Cell::new(0);
    TestRunner::new(seed::config(96, "proptest-regressions/operations.txt"))
        .run(&steps(80), |steps| {
            let mut bench = bench.borrow_mut();
            let mut side = StoreSide::new(&mut bench, base);
            side.find_numbers(&model);
            side.checks = case.replace(case.get() + 1) % 4 == 0;
            let mut w = Together::new(model.clone(), vec![Box::new(side)]);
            for step in &steps {
                w.step(step);
            }
            w.same("before the last restart");
            w.reopen();
            w.seal();
            w.finish();
            Ok(())
        })
        .unwrap();
}
