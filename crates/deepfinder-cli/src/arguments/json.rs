use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a result goes as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    /// To standard output, instead of the readable result.
    Printed,
    /// Into that file, beside the readable result.
    File(PathBuf),
}

impl FromStr for Json {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "-" => Ok(Self::Printed),
            // Nothing else of ours ends so: no list or volume is ever overwritten by a report.
            name if is_json_file(name) => Ok(Self::File(name.into())),
            name => Err(format!("`{name}` must end in .json")),
        }
    }
}

fn is_json_file(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("json"))
}

/// The command line with `--json FILE.json` put into one word. Any other word behind `--json` is none of its own, so
/// that `evaluate --json TRUTH PICKS` prints, and neither list is taken for the file to write.
pub(crate) fn with_json_joined(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    let mut options = true;
    for word in words {
        options &= word != "--";
        match joined.last_mut() {
            Some(last) if options && last == "--json" && word.to_str().is_some_and(is_json_file) => {
                last.push("=");
                last.push(word);
            }
            _ => joined.push(word),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::Cli;

    fn json_of(line: &str) -> Option<Json> {
        let words = line.split_whitespace().map(OsString::from);
        Cli::try_parse_from(with_json_joined(words)).unwrap().global.json
    }

    #[test]
    fn json_takes_a_json_file_and_nothing_else() {
        let file = || Some(Json::File("r.json".into()));
        assert_eq!(json_of("deepfinder evaluate a.xml b.xml"), None);
        assert_eq!(
            json_of("deepfinder evaluate a.xml b.xml --json"),
            Some(Json::Printed)
        );
        assert_eq!(
            json_of("deepfinder evaluate --json a.xml b.xml"),
            Some(Json::Printed)
        );
        assert_eq!(
            json_of("deepfinder --json evaluate a.xml b.xml"),
            Some(Json::Printed)
        );
        assert_eq!(json_of("deepfinder evaluate a.xml b.xml --json r.json"), file());
        assert_eq!(json_of("deepfinder evaluate --json=r.json a.xml b.xml"), file());
        assert_eq!(json_of("deepfinder --json r.json info a.xml"), file());
        assert_eq!(json_of("deepfinder info --json -- r.json"), Some(Json::Printed));
        let words = ["deepfinder", "info", "a.xml", "--json=b.xml"];
        assert!(Cli::try_parse_from(words).is_err_and(|error| error.to_string().contains(".json")));
    }
}
