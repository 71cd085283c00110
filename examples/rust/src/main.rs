fn main() -> std::process::ExitCode {
    let number = std::env::args().nth(1).and_then(|text| text.parse().ok());
    match number.and_then(roman::numeral) {
        Some(text) => println!("{text}"),
        None => {
            eprintln!("usage: roman NUMBER    (1 to 3999)");
            return 2.into();
        }
    }
    0.into()
}
