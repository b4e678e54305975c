//! The page: one file, with its style and script in it, and nothing from elsewhere.
//!
//! What it may do is written in the header of each answer: run the script and the style of this very answer, marked by
//! a number drawn for it, and talk to where it came from. So a name of a group that looks like a script is text.

/// Written in the page where the number goes.
const NONCE: &str = "{{nonce}}";

const PAGE: &str = include_str!("page.html");

/// The page, and its `content-security-policy`.
pub(super) fn page() -> (String, String) {
    let nonce = format!("{:032x}", rand::random::<u128>());
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    (PAGE.replace(NONCE, &nonce), policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_another_number_and_the_page_names_no_other_place() {
        let ((one, policy), (_, other)) = (page(), page());
        assert_ne!(policy, other);
        assert!(!one.contains(NONCE));
        for forbidden in
            ["http://", "https://", "//cdn", "@import", "style=\"", "onclick", "innerHTML"]
        {
            let allowed = one.replace("http://www.w3.org/2000/svg", "");
            assert!(!allowed.contains(forbidden), "{forbidden}");
        }
    }
}
