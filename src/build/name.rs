//! What may name a pocker or a volume.

use super::BuildError;

/// Long enough for any name that a person types; a name is a directory of the browse view and part of labels.
pub const MAX_NAME: usize = 64;

/// `[a-z0-9][a-z0-9._-]*`, at most 64 bytes, and no word that the command line takes for a command.
pub fn validate(name: &str, reserved: &[String]) -> Result<(), BuildError> {
    let refuse = |why, hint: Option<String>| {
        Err(BuildError::Name {
            name: name.chars().take(2 * MAX_NAME).collect(),
            why,
            hint,
        })
    };
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let Some(first) = name.bytes().next() else {
        return refuse("it is empty", None);
    };
    if name.len() > MAX_NAME {
        return refuse("it is longer than 64 bytes", None);
    }
    if name.contains('/') {
        let context = "the context comes after the name: pocker create NAME CONTEXT";
        let hint = (!reserved.is_empty()).then(|| context.to_owned());
        return refuse("it has a `/`", hint);
    }
    if !name.bytes().all(legal) {
        let lower = name.to_ascii_lowercase();
        let hint = lower.bytes().all(legal).then(|| format!("write {lower}"));
        return refuse("it may hold a-z, 0-9, `.`, `_` and `-` only", hint);
    }
    if !first.is_ascii_lowercase() && !first.is_ascii_digit() {
        return refuse("it must start with a letter or digit", None);
    }
    if name.contains("..") {
        return refuse("it has `..`", None);
    }
    if reserved.iter().any(|word| word == name) {
        return refuse(
            "it is a command of pocker",
            Some(format!("call it my-{name}")),
        );
    }
    Ok(())
}

/// The same without a command line's words: what the server insists on, and what names a volume.
pub fn check(name: &str) -> Result<(), BuildError> {
    validate(name, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "a".repeat(64);
        for good in ["nginx", "a", "7up", "web-1.2_x", &long] {
            assert!(check(good).is_ok());
            assert!(validate(good, &["run".to_owned()]).is_ok(), "{good}");
        }
        let longer = "a".repeat(65);
        let all: String = [
            "", "a/b", "..", "a..b", "-d", ".x", "Web", "é", "a b", "run", &longer,
        ]
        .iter()
        .map(|bad| {
            let error = validate(bad, &["run".to_owned()]).expect_err(bad);
            format!("{error} ({})\n", error.hint().unwrap_or_default())
        })
        .collect();
        insta::assert_snapshot!(all, @r#"
        `` cannot be a name: it is empty (a name looks like web, or web-2.test)
        `a/b` cannot be a name: it has a `/` (the context comes after the name: pocker create NAME CONTEXT)
        `..` cannot be a name: it must start with a letter or digit (a name looks like web, or web-2.test)
        `a..b` cannot be a name: it has `..` (a name looks like web, or web-2.test)
        `-d` cannot be a name: it must start with a letter or digit (a name looks like web, or web-2.test)
        `.x` cannot be a name: it must start with a letter or digit (a name looks like web, or web-2.test)
        `Web` cannot be a name: it may hold a-z, 0-9, `.`, `_` and `-` only (write web)
        `é` cannot be a name: it may hold a-z, 0-9, `.`, `_` and `-` only (a name looks like web, or web-2.test)
        `a b` cannot be a name: it may hold a-z, 0-9, `.`, `_` and `-` only (a name looks like web, or web-2.test)
        `run` cannot be a name: it is a command of pocker (call it my-run)
        `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa` cannot be a name: it is longer than 64 bytes (a name looks like web, or web-2.test)
        "#);
    }
}
