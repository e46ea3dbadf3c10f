//! A command line as a sequence of options: clusters of letters, values after a letter or an equals sign,
//! words that are not options. The rules are those of the popt library, which ipvsadm uses.

use super::options::{Argument, OPTIONS, OptionRow};

/// Reads the words one after the other.
pub(super) struct WordReader<'a> {
    words: &'a [String],
    next: usize,
    /// Unread letters of a cluster: the byte position in the word before `next`.
    cluster: Option<usize>,
    only_plain: bool,
    plain: Vec<&'a str>,
}

/// An option that was found.
pub(super) struct FoundOption<'a> {
    pub row: &'static OptionRow,
    pub value: Option<&'a str>,
}

/// Why a word is not an option; each with the word as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WordError {
    Unknown(String),
    MissingValue(String),
    UnwantedValue(String),
}

impl WordError {
    /// The text that follows the word.
    pub(super) fn text(&self) -> String {
        match self {
            WordError::Unknown(word) => format!("{word}: unknown option"),
            WordError::MissingValue(word) => format!("{word}: missing argument"),
            WordError::UnwantedValue(word) => format!("{word}: option does not take an argument"),
        }
    }
}

impl<'a> WordReader<'a> {
    pub(super) fn new(words: &'a [String]) -> WordReader<'a> {
        WordReader { words, next: 0, cluster: None, only_plain: false, plain: Vec::new() }
    }

    /// The last word read, option or value.
    pub(super) fn last(&self) -> &'a str {
        self.next.checked_sub(1).and_then(|index| self.words.get(index)).map_or("", String::as_str)
    }

    /// The words that are not options, in their order.
    pub(super) fn into_plain(self) -> Vec<&'a str> {
        self.plain
    }

    /// The next option, or `None` at the end.
    pub(super) fn next_option(&mut self) -> Option<Result<FoundOption<'a>, WordError>> {
        loop {
            if let Some(position) = self.cluster.take() {
                return Some(self.letter(self.last(), position));
            }
            let word = self.words.get(self.next)?.as_str();
            self.next += 1;
            if self.only_plain || !word.starts_with('-') || word == "-" {
                self.plain.push(word);
            } else if word == "--" {
                self.only_plain = true;
            } else if let Some(long) = word.strip_prefix("--") {
                return Some(self.long(word, long));
            } else {
                return Some(self.letter(word, 1));
            }
        }
    }

    fn long(&mut self, word: &'a str, long: &'a str) -> Result<FoundOption<'a>, WordError> {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let Some(row) = OPTIONS.iter().find(|row| row.long == name) else {
            return Err(WordError::Unknown(word.to_owned()));
        };
        match (row.takes, value) {
            (Argument::Nothing, Some(_)) => Err(WordError::UnwantedValue(word.to_owned())),
            (_, value) => self.found(row, word, value),
        }
    }

    fn letter(&mut self, word: &'a str, position: usize) -> Result<FoundOption<'a>, WordError> {
        let rest = word.get(position..).unwrap_or_default();
        let Some(letter) = rest.chars().next() else { return Err(WordError::Unknown(word.to_owned())) };
        let Some(row) = OPTIONS.iter().find(|row| row.short == Some(letter)) else {
            return Err(WordError::Unknown(word.to_owned()));
        };
        let behind = &rest[letter.len_utf8()..];
        if row.takes == Argument::Nothing {
            if behind.starts_with('=') {
                return Err(WordError::UnwantedValue(word.to_owned()));
            }
            self.cluster = (!behind.is_empty()).then_some(position + letter.len_utf8());
            return Ok(FoundOption { row, value: None });
        }
        let value = (!behind.is_empty()).then(|| behind.strip_prefix('=').unwrap_or(behind));
        self.found(row, word, value)
    }

    /// An option with its value, which is part of the word or the next word.
    fn found(
        &mut self,
        row: &'static OptionRow,
        word: &'a str,
        value: Option<&'a str>,
    ) -> Result<FoundOption<'a>, WordError> {
        let following = self.words.get(self.next).map(String::as_str);
        let value = match (row.takes, value, following) {
            (Argument::Nothing, _, _) => None,
            (_, Some(value), _) => Some(value),
            (Argument::Value, None, None) => return Err(WordError::MissingValue(word.to_owned())),
            (Argument::ValueOrNothing, None, following)
                if following.is_none_or(|word| word.starts_with('-')) =>
            {
                None
            }
            (_, None, following) => {
                self.next += 1;
                following
            }
        };
        Ok(FoundOption { row, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> (Vec<String>, Vec<String>) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let mut reader = WordReader::new(&words);
        let mut options = Vec::new();
        while let Some(found) = reader.next_option() {
            options.push(match found {
                Ok(FoundOption { row, value: None }) => row.long.to_owned(),
                Ok(FoundOption { row, value: Some(value) }) => format!("{}={value}", row.long),
                Err(error) => error.text(),
            });
        }
        (options, reader.into_plain().into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn clusters_values_and_plain_words() {
        assert_eq!(read("-Ln").0, ["list", "numeric"]);
        assert_eq!(read("-At10.0.0.8:80").0, ["add-service", "tcp-service=10.0.0.8:80"]);
        assert_eq!(read("-a -iw 5 -w=6").0, ["add-server", "ipip", "weight=5", "weight=6"]);
        assert_eq!(read("--weight=4 --weight 5").0, ["weight=4", "weight=5"]);
        assert_eq!(read("-L - foo -- -n").1, ["-", "foo", "-n"]);
    }

    #[test]
    fn persistence_takes_the_next_word_unless_it_is_an_option() {
        assert_eq!(read("-p 100").0, ["persistent=100"]);
        assert_eq!(read("-p100 -p=7").0, ["persistent=100", "persistent=7"]);
        assert_eq!(read("-p -s rr").0, ["persistent", "scheduler=rr"]);
        assert_eq!(read("-A -p").0, ["add-service", "persistent"]);
    }

    #[test]
    fn errors_name_the_whole_word() {
        assert_eq!(read("-n8").0[1], "-n8: unknown option");
        assert_eq!(read("-iw").0[1], "-iw: missing argument");
        assert_eq!(read("--numeric=1").0, ["--numeric=1: option does not take an argument"]);
        assert_eq!(read("-L=").0, ["-L=: option does not take an argument"]);
        assert_eq!(read("--sched").0, ["--sched: unknown option"]);
        assert_eq!(read("-é").0, ["-é: unknown option"]);
    }
}
