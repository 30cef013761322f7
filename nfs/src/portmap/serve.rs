//! Our own portmapper's answers. It knows what this server has and learns nothing: SET and
//! UNSET are refused, and CALLIT, which lets anybody send calls from here, is not there.

use super::{Mapping, PORTMAP_PROGRAM, PORTMAP_V2, TCP, UDP};
use crate::xdr::{Decoded, Put, Reader};

/// `None` where there is no such procedure.
pub fn answer(
    mappings: &[Mapping],
    procedure: u32,
    args: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Option<Decoded<()>> {
    Some(match procedure {
        0 => Ok(()),
        // SET, UNSET.
        1 | 2 => mapping(args).map(|_| out.bool(false)),
        3 => mapping(args).map(|asked| out.u32(u32::from(port(mappings, asked)))),
        4 => {
            for row in own().iter().chain(mappings) {
                out.bool(true);
                for word in [row.program, row.version, row.protocol, u32::from(row.port)] {
                    out.u32(word);
                }
            }
            out.bool(false);
            Ok(())
        }
        _ => return None,
    })
}

fn own() -> [Mapping; 2] {
    [TCP, UDP].map(|protocol| Mapping {
        program: PORTMAP_PROGRAM,
        version: PORTMAP_V2,
        protocol,
        port: super::PORTMAP_PORT,
    })
}

/// Program, version and protocol; the port in a call says nothing.
fn mapping(args: &mut Reader<'_>) -> Decoded<(u32, u32, u32)> {
    let asked = (args.u32()?, args.u32()?, args.u32()?);
    args.u32()?;
    Ok(asked)
}

/// Another version's port where that one is not there, as rpcbind answers: the call to it
/// says then which versions there are. 0: not registered.
fn port(mappings: &[Mapping], asked: (u32, u32, u32)) -> u16 {
    let (program, version, protocol) = asked;
    let own = own();
    let mut found = own
        .iter()
        .chain(mappings)
        .filter(|row| row.program == program && row.protocol == protocol);
    let other = found.clone().next();
    found
        .find(|row| row.version == version)
        .or(other)
        .map_or(0, |row| row.port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portmap::mappings;
    use crate::proto::{MOUNT_PROGRAM, NFS_PROGRAM};

    fn ask(procedure: u32, words: &[u32]) -> Option<Vec<u32>> {
        let mut args = Vec::new();
        words.iter().for_each(|word| args.u32(*word));
        let mut out = Vec::new();
        let mut reader = Reader::new(&args);
        answer(&mappings(2050), procedure, &mut reader, &mut out)?.ok()?;
        let word = |w: &[u8]| w.iter().fold(0, |n, b| n << 8 | u32::from(*b));
        Some(out.chunks(4).map(word).collect())
    }

    #[test]
    fn a_port_is_told_for_what_is_served() {
        assert_eq!(ask(3, &[NFS_PROGRAM, 3, TCP, 0]), Some(vec![2050]));
        assert_eq!(ask(3, &[NFS_PROGRAM, 2, TCP, 0]), Some(vec![2050]));
        assert_eq!(ask(3, &[NFS_PROGRAM, 3, UDP, 0]), Some(vec![0]));
        assert_eq!(ask(3, &[MOUNT_PROGRAM, 1, UDP, 9]), Some(vec![2050]));
        assert_eq!(ask(3, &[PORTMAP_PROGRAM, 2, UDP, 0]), Some(vec![111]));
        assert_eq!(ask(3, &[100_021, 4, TCP, 0]), Some(vec![0]));
        assert_eq!(ask(3, &[NFS_PROGRAM, 3, TCP]), None);
    }

    #[test]
    fn all_of_it_is_listed() {
        let listed = ask(4, &[]).unwrap_or_default();
        assert_eq!(listed.len(), 7 * 5 + 1);
        assert_eq!(listed[10..15], [1, NFS_PROGRAM, 3, TCP, 2050]);
        assert_eq!(listed.last(), Some(&0));
    }

    #[test]
    fn nobody_registers_here_and_nobody_calls_through_it() {
        assert_eq!(ask(1, &[200_000, 1, TCP, 99]), Some(vec![0]));
        assert_eq!(ask(2, &[NFS_PROGRAM, 3, TCP, 0]), Some(vec![0]));
        assert_eq!(ask(5, &[0; 8]), None);
    }
}
