//! Rows as bytes, for the journal.

use super::codec::{Dec, Enc};
use super::rows::Row;
use crate::types::Errno;

impl Row {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut e = Enc(std::mem::take(out));
        let mut head = |tag: u8, tree: &u64, at: &u64| {
            e.u8(tag);
            e.u64(*tree);
            e.u64(*at);
        };
        match self {
            Row::Node { tree, node, data } => {
                head(1, tree, node);
                e.bytes(data);
            }
            Row::NodeGone { tree, node } => head(2, tree, node),
            Row::Content { tree, node, data } => {
                head(3, tree, node);
                e.bytes(data);
            }
            Row::ContentGone { tree, node } => head(4, tree, node),
            Row::Present {
                tree,
                node,
                chunk,
                bits,
            } => {
                head(5, tree, node);
                e.u64(*chunk as u64);
                e.bytes(bits);
            }
            Row::PresentGone { tree, node } => head(6, tree, node),
            Row::Added {
                tree,
                dir,
                seq,
                name,
                node,
            } => {
                head(7, tree, dir);
                e.u64(*seq);
                e.bytes(name);
                e.u64(*node);
            }
            Row::AddedGone { tree, dir, seq } => {
                head(8, tree, dir);
                e.u64(*seq);
            }
            Row::Whiteout { tree, dir, name } => {
                head(9, tree, dir);
                e.bytes(name);
            }
            Row::WhiteoutsGone { tree, dir } => head(10, tree, dir),
            Row::Reserved { tree, reserved } => head(11, tree, reserved),
            Row::Reply {
                tree,
                seq,
                key,
                data,
            } => {
                head(12, tree, seq);
                e.0.extend_from_slice(key);
                e.bytes(data);
            }
        }
        *out = e.0;
    }

    /// Takes one row off the front.
    pub fn decode(bytes: &mut &[u8]) -> Result<Row, Errno> {
        let mut d = Dec(bytes);
        let (tag, tree, at) = (d.u8()?, d.u64()?, d.u64()?);
        let row = match tag {
            1 => Row::Node {
                tree,
                node: at,
                data: d.bytes()?.to_vec(),
            },
            2 => Row::NodeGone { tree, node: at },
            3 => Row::Content {
                tree,
                node: at,
                data: d.bytes()?.to_vec(),
            },
            4 => Row::ContentGone { tree, node: at },
            5 => Row::Present {
                tree,
                node: at,
                chunk: usize::try_from(d.u64()?).map_err(|_| Errno::Io)?,
                bits: d.bytes()?.to_vec(),
            },
            6 => Row::PresentGone { tree, node: at },
            7 => Row::Added {
                tree,
                dir: at,
                seq: d.u64()?,
                name: d.bytes()?.into(),
                node: d.u64()?,
            },
            8 => Row::AddedGone {
                tree,
                dir: at,
                seq: d.u64()?,
            },
            9 => Row::Whiteout {
                tree,
                dir: at,
                name: d.bytes()?.to_vec(),
            },
            10 => Row::WhiteoutsGone { tree, dir: at },
            11 => Row::Reserved { tree, reserved: at },
            12 => Row::Reply {
                tree,
                seq: at,
                key: d.array()?,
                data: d.bytes()?.to_vec(),
            },
            _ => return Err(Errno::Io),
        };
        *bytes = d.0;
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..300)
    }

    fn rows() -> impl Strategy<Value = Row> {
        let two = || (any::<u64>(), any::<u64>());
        prop_oneof![
            (two(), bytes()).prop_map(|((tree, node), data)| Row::Node { tree, node, data }),
            two().prop_map(|(tree, node)| Row::NodeGone { tree, node }),
            (two(), bytes()).prop_map(|((tree, node), data)| Row::Content { tree, node, data }),
            two().prop_map(|(tree, node)| Row::ContentGone { tree, node }),
            (two(), any::<u32>(), bytes()).prop_map(|((tree, node), chunk, bits)| Row::Present {
                tree,
                node,
                chunk: chunk as usize,
                bits
            }),
            two().prop_map(|(tree, node)| Row::PresentGone { tree, node }),
            (two(), two(), bytes()).prop_map(|((tree, dir), (seq, node), name)| Row::Added {
                tree,
                dir,
                seq,
                name: name.into(),
                node
            }),
            (two(), any::<u64>()).prop_map(|((tree, dir), seq)| Row::AddedGone { tree, dir, seq }),
            (two(), bytes()).prop_map(|((tree, dir), name)| Row::Whiteout { tree, dir, name }),
            two().prop_map(|(tree, dir)| Row::WhiteoutsGone { tree, dir }),
            two().prop_map(|(tree, reserved)| Row::Reserved { tree, reserved }),
            (two(), any::<[u8; 32]>(), bytes()).prop_map(|((tree, seq), key, data)| Row::Reply {
                tree,
                seq,
                key,
                data
            }),
        ]
    }

    proptest! {
        #[test]
        fn rows_are_read_as_they_were_written(rows in proptest::collection::vec(rows(), 1..8)) {
            let mut bytes = Vec::new();
            for row in &rows {
                row.encode(&mut bytes);
            }
            let mut rest = &bytes[..];
            for row in &rows {
                prop_assert_eq!(&Row::decode(&mut rest).unwrap(), row);
            }
            prop_assert!(rest.is_empty());
            for cut in 0..bytes.len() {
                let mut rest = &bytes[..cut];
                while !rest.is_empty() {
                    if Row::decode(&mut rest).is_err() {
                        break;
                    }
                }
            }
        }
    }
}
