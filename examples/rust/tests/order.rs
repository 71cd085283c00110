//! All numerals are different.

#[test]
fn no_two_numbers_share_a_numeral() {
    let all: std::collections::HashSet<_> = (1..4000).map(|number| roman::numeral(number).unwrap()).collect();
    assert_eq!(all.len(), 3999);
}
