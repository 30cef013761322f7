//! Device nodes, by the numbers in the set's own /dev/MAKEDEV: they differ between architectures.

/// What programs expect, and nothing that reaches memory, disks or the network.
const WANTED: [&str; 8] = [
    "null", "zero", "tty", "stdin", "stdout", "stderr", "urandom", "ptm",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: &'static str,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
}

/// The lines `M NAME c MAJOR MINOR MODE …` of the script.
pub fn nodes(script: &str) -> Vec<Node> {
    let mut found: Vec<Node> = Vec::new();
    for statement in script.lines().flat_map(|line| line.split(';')) {
        let mut words = statement.split_ascii_whitespace().skip_while(|w| *w != "M");
        let line = (|| {
            words.next()?;
            let name = words.next()?;
            let name = WANTED.into_iter().find(|wanted| *wanted == name)?;
            (words.next()? == "c").then_some(())?;
            let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let mode = u32::from_str_radix(words.next()?, 8).ok()?;
            Some(Node {
                name,
                major,
                minor,
                mode: mode & 0o777,
            })
        })();
        if let Some(node) = line
            && !found.iter().any(|known| known.name == node.name)
        {
            found.push(node);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_scripts_own() {
        let script = "#!/bin/sh -\nM() {\n\tmknod $1 $2 $3 $4\n}\ncase $i in\nstd)\n\tM console\tc 0 0 600\n\
                      \tM tty\t\tc 1 0 666\n\tM mem\t\tc 2 0 640 kmem\n\tM null\t\tc 2 2 666\n\tM zero c 2 12 666\n\
                      \tM stdin c 22 0 666; M stdout c 22 1 666\n\tM null b 9 9 666\n\t;;\n\
                      \tM ptm b 81 0 666\n\
                      urandom|random)\n\tM urandom\tc 45 0 644\n\tln -sf urandom random\n;;\nM tty c x 0 666\n";
        let found: Vec<String> = nodes(script)
            .iter()
            .map(|n| format!("{} {} {} {:o}", n.name, n.major, n.minor, n.mode))
            .collect();
        assert_eq!(
            found,
            [
                "tty 1 0 666",
                "null 2 2 666",
                "zero 2 12 666",
                "stdin 22 0 666",
                "stdout 22 1 666",
                "urandom 45 0 644"
            ]
        );
    }
}
