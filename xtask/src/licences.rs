//! Licence expressions as crates write them: SPDX, and the older `MIT/Apache-2.0`.

use std::collections::BTreeSet;

/// May a crate under `expression` be used where the licences `allowed` are welcome?
///
/// `OR` leaves the choice, `AND` binds both; an exception (`WITH`) only widens the licence before it and is passed over.
/// What can't be read is refused.
pub(crate) fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader {
        words: &words,
        allowed,
    };
    reader.either() == Some(true) && reader.words.is_empty()
}

struct Reader<'a> {
    words: &'a [&'a str],
    allowed: &'a BTreeSet<String>,
}

impl<'a> Reader<'a> {
    fn either(&mut self) -> Option<bool> {
        let mut verdict = self.both()?;
        while self.take("OR") {
            verdict |= self.both()?;
        }
        Some(verdict)
    }

    fn both(&mut self) -> Option<bool> {
        let mut verdict = self.one()?;
        while self.take("AND") {
            verdict &= self.one()?;
        }
        Some(verdict)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let verdict = self.either()?;
            return self.take(")").then_some(verdict);
        }
        let licence = self.next()?;
        if ["OR", "AND", "WITH", ")"].contains(&licence) {
            return None;
        }
        if self.take("WITH") {
            self.next()?;
        }
        Some(self.allowed.contains(licence))
    }

    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn take(&mut self, word: &str) -> bool {
        let is_next = self.words.first() == Some(&word);
        if is_next {
            self.words = &self.words[1..];
        }
        is_next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str) -> bool {
        let allowed = ["MIT", "Apache-2.0", "Zlib", "Unicode-3.0"]
            .map(str::to_owned)
            .into();
        is_allowed(expression, &allowed)
    }

    #[test]
    fn welcome_licences_pass() {
        for expression in [
            "MIT",
            "MIT OR GPL-3.0-only",
            "GPL-3.0-only OR MIT",
            "MIT/Apache-2.0",
            "GPL-2.0 / MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-3.0-only AND MIT OR Zlib",
        ] {
            assert!(check(expression), "{expression}");
        }
    }

    #[test]
    fn others_and_what_is_no_expression_are_refused() {
        for expression in [
            "",
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "(MIT OR Apache-2.0) AND GPL-3.0-only",
            "MIT Apache-2.0",
            "MIT OR",
            "(MIT",
            "MIT)",
            "WITH MIT",
            "MIT WITH",
        ] {
            assert!(!check(expression), "{expression:?}");
        }
    }
}
