//! Names made fit for host names and labels.

use sha2::{Digest, Sha256};

/// `CI_COMMIT_REF_SLUG` and its like: lower case, at most 63 characters, only letters, digits and inner dashes.
pub fn slug(text: &str) -> String {
    let dashed = dashes(text);
    dashed[..dashed.len().min(63)].trim_matches('-').to_owned()
}

/// `CI_ENVIRONMENT_SLUG`: at most 24 characters; six of them tell apart names that would be shortened alike.
pub fn environment_slug(name: &str) -> String {
    let mut slug = dashes(name);
    if !slug.starts_with(|c: char| c.is_ascii_lowercase()) {
        slug.insert_str(0, "env-");
    }
    while slug.contains("--") {
        slug = slug.replace("--", "-");
    }
    if slug.len() <= 24 && slug == name {
        return slug.strip_suffix('-').unwrap_or(&slug).to_owned();
    }
    slug.truncate(17);
    if !slug.ends_with('-') {
        slug.push('-');
    }
    slug + &suffix(name)
}

/// Lower case ASCII; everything but letters and digits is a dash.
fn dashes(text: &str) -> String {
    let lower = text.to_lowercase();
    lower.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect()
}

/// The last six base 36 digits of the name's SHA-256.
fn suffix(name: &str) -> String {
    let modulus = 36u64.pow(6);
    let digest = Sha256::digest(name.as_bytes());
    let mut rest = digest.iter().fold(0, |n, byte| (n * 256 + u64::from(*byte)) % modulus);
    let mut digits = [0u8; 6];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize];
        rest /= 36;
    }
    digits.iter().map(|d| char::from(*d)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_become_slugs_without_squeezing_dashes() {
        assert_eq!(slug("Feature/Foo_Bar"), "feature-foo-bar");
        assert_eq!(slug("-a//b-"), "a--b");
        assert_eq!(slug(&"x".repeat(80)).len(), 63);
        assert_eq!(slug("ä"), "");
    }

    #[test]
    fn environment_slugs_keep_plain_names_and_mark_changed_ones() {
        assert_eq!(environment_slug("production"), "production");
        let review = environment_slug("review/My-App");
        assert!(review.starts_with("review-my-app-") && review.len() == 20, "{review}");
        assert!(environment_slug("1").starts_with("env-1-"));
        assert_eq!(environment_slug(&"long".repeat(20)).len(), 24);
    }
}
