//! Packs: small things back to back in one object of the object store, and the table that says what
//! and where.
//!
//! A pack is named by the SHA-256 of its bytes. Its table is another object of the same name: the
//! magic, the number of other packs it rests on u32, the number of things in it u32; those packs'
//! names; for each thing its digest, 1 for a blob or 0, its length in the pack u32 and its own u32, in the order in
//! which they lie there; and the SHA-256 of all that. Little-endian. A thing that is shorter in the pack is an
//! LZ4 block.

use pocker_store::object::digest_of;
use pocker_store::types::Digest;
use std::collections::HashMap;

const MAGIC: &[u8; 8] = b"PKRPACK1";
const HEAD: usize = 8 + 4 + 4;
const ROW: usize = 32 + 1 + 4 + 4;
/// Things in one pack.
pub const THINGS_MAX: usize = 1 << 16;
/// Bytes of a table, of which a few hundred are usual.
pub const TABLE_MAX: usize = 16 << 20;

/// A thing: an object and a blob of the same bytes are two.
pub type Thing = (Digest, bool);

/// How long a thing is: in its pack, and by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Len {
    pub stored: u32,
    pub plain: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Packs with something that objects in this one refer to.
    pub rests_on: Vec<Digest>,
    pub things: Vec<(Thing, Len)>,
}

impl Table {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend((self.rests_on.len() as u32).to_le_bytes());
        out.extend((self.things.len() as u32).to_le_bytes());
        self.rests_on.iter().for_each(|pack| out.extend(pack.0));
        for ((digest, blob), len) in &self.things {
            out.extend(digest.0);
            out.push((*blob).into());
            out.extend(len.stored.to_le_bytes());
            out.extend(len.plain.to_le_bytes());
        }
        let sum = digest_of(&out);
        out.extend(sum.0);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Table, &'static str> {
        let (body, sum) = bytes.split_last_chunk::<32>().ok_or("it is cut short")?;
        if digest_of(body).0 != *sum {
            return Err("its bytes have changed");
        }
        let (head, mut rest) = body.split_at_checked(HEAD).ok_or("it is cut short")?;
        if &head[..8] != MAGIC {
            return Err("it is no table, or of a newer format");
        }
        let (packs, things) = (number(head, 8) as usize, number(head, 12) as usize);
        if things > THINGS_MAX || Some(rest.len()) != size(packs, things) {
            return Err("its length is not what it says");
        }
        let mut take = |n: usize| {
            let (field, left) = rest.split_at(n);
            rest = left;
            field
        };
        let digest = |bytes: &[u8]| {
            let mut out = [0; 32];
            out.copy_from_slice(bytes);
            Digest(out)
        };
        let rests_on = (0..packs).map(|_| digest(take(32))).collect();
        let mut all = Vec::with_capacity(things);
        for _ in 0..things {
            let row = take(ROW);
            let len = Len {
                stored: number(row, 33),
                plain: number(row, 37),
            };
            if len.stored > len.plain {
                return Err("something in it is longer than it is");
            }
            all.push(((digest(&row[..32]), row[32] == 1), len));
        }
        Ok(Table {
            rests_on,
            things: all,
        })
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn size(packs: usize, things: usize) -> Option<usize> {
    packs.checked_mul(32)?.checked_add(things.checked_mul(ROW)?)
}

/// Where a thing lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// By its number in [`Places`].
    pub pack: u32,
    pub at: u64,
    pub len: u64,
    /// Its own length.
    pub plain: u64,
}

/// What all packs that are known hold.
#[derive(Default)]
pub struct Places {
    packs: Vec<Digest>,
    /// Of each pack, in the order in which they lie.
    rows: Vec<Vec<(Thing, Place)>>,
    numbers: HashMap<Digest, u32>,
    things: HashMap<Thing, Place>,
}

impl Places {
    pub fn knows(&self, pack: &Digest) -> bool {
        self.numbers.contains_key(pack)
    }

    /// Packs, and things in them.
    pub fn counts(&self) -> (usize, usize) {
        (self.packs.len(), self.things.len())
    }

    pub fn add(&mut self, pack: Digest, table: &Table) {
        if self.knows(&pack) {
            return;
        }
        let number = self.packs.len() as u32;
        self.packs.push(pack);
        self.numbers.insert(pack, number);
        let mut at = 0;
        let mut rows = Vec::with_capacity(table.things.len());
        for (thing, len) in &table.things {
            let place = Place {
                pack: number,
                at,
                len: len.stored.into(),
                plain: len.plain.into(),
            };
            self.things.entry(*thing).or_insert(place);
            rows.push((*thing, place));
            at += place.len;
        }
        self.rows.push(rows);
    }

    pub fn find(&self, thing: &Thing) -> Option<Place> {
        self.things.get(thing).copied()
    }

    /// What lies around a place, up to so many bytes to either side.
    pub fn near(&self, place: &Place, reach: u64) -> &[(Thing, Place)] {
        let rows = &self.rows[place.pack as usize];
        let (from, to) = (place.at.saturating_sub(reach), place.at + place.len + reach);
        let start = rows.partition_point(|(_, p)| p.at < from);
        let end = rows.partition_point(|(_, p)| p.at + p.len <= to);
        &rows[start..end.max(start)]
    }

    pub fn pack(&self, number: u32) -> Digest {
        self.packs[number as usize]
    }
}

/// Parts of one pack that are read at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub pack: u32,
    pub from: u64,
    pub to: u64,
}

/// Read together although this much between them is not wanted: a request costs more.
const GAP: u64 = 64 << 10;
/// Read at once.
const SPAN: u64 = 8 << 20;

/// The fewest sensible reads that cover these places.
pub fn spans(places: impl IntoIterator<Item = Place>) -> Vec<Span> {
    let mut all: Vec<Place> = places.into_iter().filter(|p| p.len > 0).collect();
    all.sort_by_key(|p| (p.pack, p.at));
    let mut out: Vec<Span> = Vec::new();
    for place in all {
        let (from, to) = (place.at, place.at + place.len);
        match out.last_mut() {
            Some(last)
                if last.pack == place.pack
                    && from <= last.to + GAP
                    && to.max(last.to) - last.from <= SPAN =>
            {
                last.to = last.to.max(to);
            }
            _ => out.push(Span {
                pack: place.pack,
                from,
                to,
            }),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(n: u8) -> Digest {
        Digest([n; 32])
    }

    fn len(stored: u32, plain: u32) -> Len {
        Len { stored, plain }
    }

    fn table() -> Table {
        Table {
            rests_on: vec![digest(8), digest(9)],
            things: vec![
                ((digest(1), true), len(10, 30)),
                ((digest(1), false), len(0, 0)),
                ((digest(2), true), len(5, 5)),
            ],
        }
    }

    #[test]
    fn a_table_comes_back_and_no_other_bytes_do() {
        let bytes = table().encode();
        assert_eq!(Table::decode(&bytes), Ok(table()));
        for at in 0..bytes.len() {
            assert!(Table::decode(&bytes[..at]).is_err(), "cut at {at}");
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(Table::decode(&other).is_err(), "changed at {at}");
        }
        // Right sums, wrong numbers.
        let mut long = bytes[..bytes.len() - 32].to_vec();
        long[12] = 200;
        let sum = digest_of(&long);
        long.extend(sum.0);
        assert!(Table::decode(&long).is_err());
    }

    #[test]
    fn things_lie_behind_one_another() {
        let mut places = Places::default();
        places.add(digest(7), &table());
        let place = places.find(&(digest(2), true)).expect("found");
        assert_eq!(
            (places.pack(place.pack), place.at, place.len),
            (digest(7), 10, 5)
        );
        assert_eq!(places.find(&(digest(2), false)), None);
    }

    proptest! {
        #[test]
        fn spans_cover_what_is_wanted_and_are_bounded(
            list in prop::collection::vec((0..3_u32, 0..(40_u64 << 20), 1..(1_u64 << 20)), 0..60)
        ) {
            let places: Vec<Place> = list.iter().map(|(pack, at, len)| Place { pack: *pack, at: *at, len: *len, plain: *len }).collect();
            let spans = spans(places.iter().copied());
            for p in &places {
                let covers = |s: &&Span| s.pack == p.pack && s.from <= p.at && s.to >= p.at + p.len;
                prop_assert!(spans.iter().any(|s| covers(&s)));
            }
            prop_assert!(spans.iter().all(|s| s.to - s.from <= SPAN.max(1 << 20)));
        }
    }
}
