use super::*;

#[test]
fn codes_are_unique_snake_case_and_explained() {
    for (index, code) in TABLE.iter().enumerate() {
        assert!(
            code.name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c == '_'),
            "{}",
            code.name
        );
        assert!(
            TABLE[..index].iter().all(|other| other.name != code.name),
            "{} is listed twice",
            code.name
        );
        assert!(
            code.meaning.ends_with('.') && code.action.ends_with('.'),
            "{}",
            code.name
        );
        assert!(
            !code.meaning.contains('|') && !code.action.contains('|'),
            "{}",
            code.name
        );
    }
}
