//! Durations as people write them: `1h 30m`, `3 weeks and 2 days`, `one hour`, `3:41:59`, `90`.
//!
//! The language is that of the Ruby library `chronic_duration`, which GitLab uses: a month has 30 days, a year
//! 365.25, a bare number is seconds, unknown words are errors, and nothing is not a duration.

/// Seconds of a duration. None: not a duration, or zero.
pub fn parse(text: &str) -> Option<f64> {
    let words = words(&text.to_lowercase())?;
    let mut total = 0.0;
    for (i, word) in words.iter().enumerate() {
        if let Word::Number(n) = word {
            let unit = match words.get(i + 1) {
                None => 1.0,
                Some(Word::Unit(seconds)) => *seconds,
                Some(Word::Number(_)) => 0.0,
            };
            total += n * unit;
        }
    }
    (total > 0.0 && total.is_finite()).then_some(total)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Word {
    Number(f64),
    /// Seconds of one.
    Unit(f64),
}

fn unit(word: &str) -> Option<f64> {
    Some(match word {
        "seconds" | "second" | "secs" | "sec" | "s" => 1.0,
        "minutes" | "minute" | "mins" | "min" | "m" => 60.0,
        "hours" | "hour" | "hrs" | "hr" | "h" => 3_600.0,
        "days" | "day" | "dy" | "d" => 86_400.0,
        "weeks" | "week" | "wks" | "wk" | "w" => 604_800.0,
        "months" | "mos" | "mo" | "month" => 2_592_000.0,
        "years" | "year" | "yrs" | "yr" | "y" => 31_557_600.0,
        _ => return None,
    })
}

/// Units of `3:41:59` from the right; weeks are not among them.
const CLOCK: [f64; 6] = [1.0, 60.0, 3_600.0, 86_400.0, 2_592_000.0, 31_557_600.0];

fn words(text: &str) -> Option<Vec<Word>> {
    let squeezed: String = text.split_whitespace().collect();
    if squeezed.contains(':') {
        return clock(&squeezed);
    }
    let mut words = Vec::new();
    let mut spelled = Spelled::default();
    for piece in text.split_whitespace().flat_map(pieces) {
        if let Ok(number) = piece.parse::<f64>() {
            words.extend(spelled.take());
            words.push(Word::Number(number));
        } else if let Some(number) = spelling(&piece) {
            spelled.add(number);
        } else {
            words.extend(spelled.take());
            let bare = piece.trim_matches(',');
            match unit(bare) {
                Some(seconds) => words.push(Word::Unit(seconds)),
                None if matches!(bare, "and" | "with" | "plus") => {}
                None => return None,
            }
        }
    }
    words.extend(spelled.take());
    if matches!(words.first(), Some(Word::Unit(_))) {
        words.insert(0, Word::Number(1.0));
    }
    Some(words)
}

fn clock(text: &str) -> Option<Vec<Word>> {
    let parts: Vec<&str> = text.split(':').collect();
    let units = CLOCK.get(..parts.len())?.iter().rev();
    let mut words = Vec::new();
    for (part, unit) in parts.iter().zip(units) {
        if !part.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return None;
        }
        words.extend([Word::Number(part.parse().ok()?), Word::Unit(*unit)]);
    }
    Some(words)
}

/// `1h30m` into `1`, `h`, `30`, `m`; `twenty-five` into its two words.
fn pieces(word: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut number = false;
    let chars: Vec<char> = word.chars().collect();
    for (i, &c) in chars.iter().enumerate() {
        let next_digit = chars.get(i + 1).is_some_and(char::is_ascii_digit);
        let numeric = c.is_ascii_digit()
            || (c == '.' && next_digit && !pieces.last().is_some_and(|p| number && p.contains('.')));
        let hyphen = c == '-' && !number && i > 0 && !next_digit && i + 1 < chars.len();
        if hyphen {
            pieces.push(String::new());
            number = false;
            continue;
        }
        match pieces.last_mut() {
            Some(last) if number == numeric => last.push(c),
            _ => pieces.push(c.to_string()),
        }
        number = numeric;
    }
    pieces.retain(|p| !p.is_empty());
    pieces
}

/// Numbers in words, added up as they come: `twenty` `five`, `two` `hundred`.
#[derive(Default)]
struct Spelled(Option<f64>);

impl Spelled {
    fn add(&mut self, number: f64) {
        self.0 = Some(match self.0 {
            None => number,
            Some(before) if number >= 100.0 => before * number,
            Some(before) => before + number,
        });
    }

    fn take(&mut self) -> Option<Word> {
        self.0.take().map(Word::Number)
    }
}

fn spelling(word: &str) -> Option<f64> {
    const WORDS: [(&str, f64); 30] = [
        ("zero", 0.0),
        ("one", 1.0),
        ("two", 2.0),
        ("three", 3.0),
        ("four", 4.0),
        ("five", 5.0),
        ("six", 6.0),
        ("seven", 7.0),
        ("eight", 8.0),
        ("nine", 9.0),
        ("ten", 10.0),
        ("eleven", 11.0),
        ("twelve", 12.0),
        ("thirteen", 13.0),
        ("fourteen", 14.0),
        ("fifteen", 15.0),
        ("sixteen", 16.0),
        ("seventeen", 17.0),
        ("eighteen", 18.0),
        ("nineteen", 19.0),
        ("twenty", 20.0),
        ("thirty", 30.0),
        ("forty", 40.0),
        ("fifty", 50.0),
        ("sixty", 60.0),
        ("seventy", 70.0),
        ("eighty", 80.0),
        ("ninety", 90.0),
        ("hundred", 100.0),
        ("thousand", 1000.0),
    ];
    WORDS.iter().find(|(w, _)| *w == word).map(|(_, n)| *n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for (text, seconds) in [
            ("1h 30m", 5400.0),
            ("1h30m", 5400.0),
            ("2 hrs 20 min", 8400.0),
            ("3 weeks and 2 days", 1_987_200.0),
            ("one hour", 3600.0),
            ("twenty-five minutes", 1500.0),
            ("two hundred seconds", 200.0),
            ("90", 90.0),
            ("3600", 3600.0),
            ("1.5h", 5400.0),
            ("1.5 hours", 5400.0),
            ("1 month", 2_592_000.0),
            ("30 days", 2_592_000.0),
            ("1w", 604_800.0),
            ("1 year", 31_557_600.0),
            ("day", 86_400.0),
            ("3:41:59", 13_319.0),
            ("1 hour, 5 minutes", 3900.0),
            ("1 Day", 86_400.0),
            (".5h", 1800.0),
            ("1 week and 2 days", 777_600.0),
        ] {
            assert_eq!(parse(text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration() {
        for text in [
            "",
            " ",
            "soon",
            "0",
            "-1",
            "-5 minutes",
            "1 fortnight",
            "never",
            "1:2:3:4:5:6:7",
            "a:b",
            "half an hour",
            "inf",
            "1 infinity",
            "1:2.5.5",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
