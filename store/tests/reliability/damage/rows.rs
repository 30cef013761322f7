//! Rows of `index.db`: one deleted of each table, counts off by one, pages swapped.

use super::{digest, seen, sql};
use crate::bench::large;

fn index(text: &'static str, rows: usize) -> String {
    seen(|dir| sql(dir, "index.db", text, rows))
}

#[test]
fn the_row_of_a_large_blob_deleted() {
    insta::assert_snapshot!(seen(|dir| {
        let text = format!(
            "DELETE FROM large_blob WHERE digest = x'{}'",
            digest(&large(1))
        );
        sql(dir, "index.db", &text, 1);
    }));
}

/// "dir" of the first tree: objects come in the order in which a tree is written, deepest first.
#[test]
fn a_directory_deleted() {
    insta::assert_snapshot!(index("DELETE FROM object WHERE id = 1", 1));
}

#[test]
fn the_object_of_a_snapshot_deleted() {
    insta::assert_snapshot!(index(
        "DELETE FROM object WHERE digest = (SELECT digest FROM snapshot WHERE ordinal = 1)",
        1
    ));
}

#[test]
fn the_row_of_a_snapshot_deleted() {
    insta::assert_snapshot!(index("DELETE FROM snapshot WHERE ordinal = 1", 1));
}

#[test]
fn a_step_deleted() {
    insta::assert_snapshot!(index("DELETE FROM step WHERE hex(key) LIKE '01%'", 1));
}

#[test]
fn a_pocker_deleted() {
    insta::assert_snapshot!(index(
        "DELETE FROM pocker WHERE name = CAST('base' AS BLOB)",
        1
    ));
}

#[test]
fn the_steps_of_a_pocker_deleted() {
    insta::assert_snapshot!(index(
        "DELETE FROM pocker_step WHERE name = CAST('base' AS BLOB)",
        1
    ));
}

#[test]
fn a_record_deleted() {
    insta::assert_snapshot!(index("DELETE FROM record", 1));
}

#[test]
fn the_secret_deleted() {
    insta::assert_snapshot!(index("DELETE FROM meta WHERE key = 'secret'", 1));
}

#[test]
fn the_size_of_a_large_blob_off_by_one() {
    insta::assert_snapshot!(seen(|dir| {
        let digest = digest(&large(1));
        let text = format!("UPDATE large_blob SET size = size + 1 WHERE digest = x'{digest}'");
        sql(dir, "index.db", &text, 1);
    }));
}

#[test]
fn the_nodes_of_a_snapshot_off_by_one() {
    insta::assert_snapshot!(index(
        "UPDATE snapshot SET nodes = nodes + 1 WHERE ordinal = 1",
        1
    ));
}

#[test]
fn a_directory_with_one_bit_flipped() {
    insta::assert_snapshot!(seen(|dir| {
        let conn = rusqlite::Connection::open(dir.join("index.db")).expect("open");
        let read = "SELECT bytes FROM object WHERE id = 1";
        let mut bytes: Vec<u8> = conn.query_row(read, [], |r| r.get(0)).expect("a row");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let write = "UPDATE object SET bytes = ?1 WHERE id = 1";
        assert_eq!(conn.execute(write, [bytes]).expect("written"), 1);
    }));
}

/// Each under the other's name.
#[test]
fn two_directory_pages_swapped() {
    insta::assert_snapshot!(index(
        "UPDATE object SET bytes = (SELECT bytes FROM object AS other WHERE other.id = 3 - object.id) \
         WHERE id IN (1, 2)",
        2
    ));
}
