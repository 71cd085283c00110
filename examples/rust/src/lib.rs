//! Roman numerals.

const LETTERS: [(u16, &str); 13] = [
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"),
    (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
];

/// The numeral of 1 to 3999; the Romans wrote no others.
pub fn numeral(mut number: u16) -> Option<String> {
    if !(1..4000).contains(&number) {
        return None;
    }
    let mut text = String::new();
    for (value, letters) in LETTERS {
        while number >= value {
            text.push_str(letters);
            number -= value;
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::numeral;

    #[test]
    fn smaller_letters_before_larger_ones_are_taken_away() {
        for (number, text) in [(4, "IV"), (9, "IX"), (1994, "MCMXCIV"), (3999, "MMMCMXCIX")] {
            assert_eq!(numeral(number).as_deref(), Some(text));
        }
    }

    #[test]
    fn there_is_no_zero_and_nothing_from_4000() {
        assert_eq!([numeral(0), numeral(4000)], [None, None]);
    }
}
