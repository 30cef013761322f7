//! `--env-file FILE`: NAME=VALUE a line, taken as it stands; # begins a comment. A name alone
//! takes the caller's own value, and is left out where there is none. Pure.

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvFileError {
    #[error("it has more than {MAX_FILE} bytes")]
    Size,
    #[error("line {line}: it is not UTF-8")]
    Encoding { line: usize },
    #[error("line {line}: {text:?} is no name for a variable")]
    Name { line: usize, text: String },
    #[error("line {line}: it holds a NUL byte")]
    Nul { line: usize },
}

/// More would not fit into what exec takes.
pub const MAX_FILE: usize = 1 << 20;

pub fn parse(
    bytes: &[u8],
    own: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, EnvFileError> {
    if bytes.len() > MAX_FILE {
        return Err(EnvFileError::Size);
    }
    let mut env = Vec::new();
    for (at, text) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = at + 1;
        let text = std::str::from_utf8(text).map_err(|_| EnvFileError::Encoding { line })?;
        let text = text.strip_suffix('\r').unwrap_or(text).trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if text.contains('\0') {
            return Err(EnvFileError::Nul { line });
        }
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, own(text)),
        };
        // A value may be secret, so only a name is ever said.
        if name.is_empty() || name.contains(char::is_whitespace) {
            let text = name.to_owned();
            return Err(EnvFileError::Name { line, text });
        }
        env.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<(String, String)>, EnvFileError> {
        parse(text, &|name| (name == "LANG").then(|| "C".to_owned()))
    }

    #[test]
    fn a_line_is_a_variable() {
        let text = b"# first\n\nA=b c \"d\"\n  B=#x=y\r\nEMPTY=\nLANG\nNOWHERE\n";
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        let want = [
            pair("A", "b c \"d\""),
            pair("B", "#x=y"),
            pair("EMPTY", ""),
            pair("LANG", "C"),
        ];
        assert_eq!(read(text).unwrap(), want);
        assert_eq!(read(b"").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_a_value() {
        let said = |text: &[u8]| read(text).unwrap_err().to_string();
        assert_eq!(said(b"A=1\n=x"), "line 2: \"\" is no name for a variable");
        let error = said(b"export TOKEN=secret");
        assert_eq!(error, "line 1: \"export TOKEN\" is no name for a variable");
        assert_eq!(said(b"A=\xff"), "line 1: it is not UTF-8");
        assert_eq!(said(b"A=\0"), "line 1: it holds a NUL byte");
        assert!(said(&[b'#'; MAX_FILE + 1]).contains("more than"));
    }
}
