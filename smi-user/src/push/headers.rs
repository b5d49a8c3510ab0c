//! Headers that the user wants in each request. Their values may be secrets and are never shown.

use std::{fmt, fs, str::FromStr};

use ureq::http::{HeaderName, HeaderValue, header};

/// What the protocol itself decides on.
const OURS: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::HOST,
];

/// A header.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    name: HeaderName,
    value: HeaderValue,
}

impl Header {
    pub(super) fn name(&self) -> &HeaderName {
        &self.name
    }

    pub(super) fn value(&self) -> &HeaderValue {
        &self.value
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=(not shown)", self.name)
    }
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The text is not repeated in errors: it may be a secret on its way to a log.
        let (name, value) = text
            .split_once('=')
            .ok_or("no = in it; write NAME=VALUE, for example Authorization=Bearer TOKEN")?;
        let name: HeaderName = name
            .trim()
            .parse()
            .map_err(|_| "what stands before the = cannot be a header's name; write NAME=VALUE")?;
        if OURS.contains(&name) {
            return Err(format!("{name} is decided by the protocol; leave it out"));
        }
        let mut value: HeaderValue = value
            .trim()
            .parse()
            .map_err(|_| format!("the value of {name} has a character that headers cannot have"))?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

/// Headers of one option: one, or those of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// All of `several`.
    pub fn join<'a>(several: impl IntoIterator<Item = &'a Self>) -> Self {
        Self(several.into_iter().flat_map(|one| one.0.clone()).collect())
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        self.0.iter()
    }
}

impl FromStr for Headers {
    type Err = String;

    /// Reads `NAME=VALUE`, or `@FILE` with such lines; empty lines and those that begin with # say nothing.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(file) = text.strip_prefix('@') else {
            return Ok(Self(vec![text.parse()?]));
        };
        let lines = fs::read_to_string(file).map_err(|error| format!("cannot read it: {error}"))?;
        let headers = lines
            .lines()
            .enumerate()
            .map(|(number, line)| (number + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(number, line)| {
                line.parse()
                    .map_err(|error| format!("line {number}: {error}"))
            })
            .collect::<Result<Vec<Header>, String>>()?;
        if headers.is_empty() {
            return Err("no header in the file; write a line NAME=VALUE into it".to_owned());
        }
        Ok(Self(headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_name_and_value_and_keeps_the_value_to_itself() {
        let header: Header = "Authorization = Bearer a=b".parse().expect("a header");
        assert_eq!(header.name(), "authorization");
        assert_eq!(header.value(), "Bearer a=b");
        assert_eq!(format!("{header:?}"), "authorization=(not shown)");
    }

    #[test]
    fn what_is_no_header_is_refused_without_repeating_it() {
        for (given, told) in [
            ("secret", "NAME=VALUE"),
            ("", "NAME=VALUE"),
            ("=secret", "before the ="),
            ("a b=secret", "before the ="),
            ("Token=secret\u{7}", "of token"),
            ("Host=secret", "decided by the protocol"),
            ("content-type=secret", "decided by the protocol"),
        ] {
            let error = given.parse::<Headers>().expect_err(given);
            assert!(error.contains(told), "{given:?}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_file_has_a_header_in_each_line() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("headers");
        let option = format!("@{}", path.display());
        fs::write(
            &path,
            "# token of the fleet\nAuthorization=Bearer x\n\nX-Scope=7\r\n",
        )
        .expect("write");
        let headers: Headers = option.parse().expect("headers");
        let names: Vec<_> = headers.iter().map(|one| one.name().as_str()).collect();
        assert_eq!(names, ["authorization", "x-scope"]);
        fs::write(&path, "Authorization=Bearer x\nBearer secret\n").expect("write");
        let error = option.parse::<Headers>().expect_err("no header");
        assert!(error.starts_with("line 2: "), "{error}");
        assert!(!error.contains("secret"), "{error}");
        fs::write(&path, "\n").expect("write");
        let error = option.parse::<Headers>().expect_err("nothing");
        assert!(error.contains("no header in the file"), "{error}");
        let error = "@/nowhere".parse::<Headers>().expect_err("no file");
        assert!(error.contains("cannot read"), "{error}");
    }
}
