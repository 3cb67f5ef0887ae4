//! Words, literals and clauses: what a request falls apart into.

use crate::planner::{
    clauses::{Clause, split},
    lexicon::Intent,
    literals::{Kind, extract},
    text::{camel, plain, slug, stem, words},
};

fn texts(message: &str) -> Vec<String> {
    split(message).into_iter().map(|c| c.text).collect()
}

fn values(message: &str) -> Vec<(Kind, String)> {
    extract(message).into_iter().map(|l| (l.kind, l.text)).collect()
}

#[test]
fn identifiers_fall_apart_as_read() {
    assert_eq!(words("getCustomerByID"), ["get", "customer", "by", "id"]);
    assert_eq!(words("HTTPServer user-agent first_name"), ["http", "server", "user", "agent", "first", "name"]);
    assert_eq!(words("artist's top10"), ["artist", "s", "top10"]);
    assert_eq!(words("customerIDs"), ["customer", "ids"]);
    assert_eq!(stem("people"), stem("person"));
    assert_eq!(slug("GET_tv-popular"), "get_tv_popular");
    assert_eq!(slug("2fa ✓"), "step_2fa");
    assert_eq!(slug("§"), "step");
    assert_eq!(camel("customer_id"), "customerId");
    assert_eq!(plain("a\u{0}b\n\u{202e}c  d", 10), "a b c d");
    assert_eq!(plain("abcdef", 3), "abc…");
}

#[test]
fn requests_fall_into_clauses() {
    assert_eq!(
        texts("Get customer data from CRM and send a welcome email"),
        ["Get customer data from CRM", "send a welcome email"]
    );
    assert_eq!(texts("Pause playback, turn down the volume and resume playing").len(), 3);
    assert_eq!(
        texts("Create an order; then email the receipt to bob@x.io. Finally, close the ticket."),
        ["Create an order", "email the receipt to bob@x.io", "close the ticket"]
    );
    assert_eq!(texts("List customers, orders and invoices"), ["List customers, orders and invoices"]);
    assert_eq!(texts("Send the name and email to Bob"), ["Send the name and email to Bob"]);
    assert_eq!(texts("Post 'send it and delete all, then stop' to the channel").len(), 1);
    assert_eq!(texts("Charge $1,200.50 to card 4.2 and notify them").len(), 2);
    assert!(split("").is_empty() && split(" , ; . ").is_empty());
}

#[test]
fn verbs_and_quantities_are_noticed() {
    let of = |text: &str| -> Clause { split(text).remove(0) };
    assert_eq!(of("look up the customer").intent, Some(Intent::Read));
    assert_eq!(of("Please remove the card").intent, Some(Intent::Delete));
    assert_eq!(of("change the address").intent, Some(Intent::Update));
    assert_eq!(of("archive it").intent, None);
    assert!(of("mail every customer").each && !of("mail the customer").each);
}

#[test]
fn conditions_stand_beside_what_they_guard() {
    let guards = |text: &str| -> Vec<(String, Option<(String, bool)>)> {
        split(text).into_iter().map(|c| (c.text, c.guard.map(|g| (g.text, g.negated)))).collect()
    };
    let guard = |text: &str, negated| Some((text.to_owned(), negated));
    assert_eq!(
        guards("Get the order. If it is paid, ship it and send a mail, otherwise cancel it"),
        [
            ("Get the order".to_owned(), None),
            ("ship it".to_owned(), guard("it is paid", false)),
            ("send a mail".to_owned(), guard("it is paid", false)),
            ("cancel it".to_owned(), guard("it is paid", true)),
        ]
    );
    assert_eq!(
        guards("Get the order and cancel it only if it is overdue"),
        [("Get the order".to_owned(), None), ("cancel it".to_owned(), guard("it is overdue", false))]
    );
    assert_eq!(guards("Close the ticket unless it is open")[0].1, guard("it is open", true));
    assert_eq!(guards("Check if the server is up"), [("Check if the server is up".to_owned(), None)]);
}

#[test]
fn values_are_found_with_their_kinds() {
    assert_eq!(
        values("Email \"Hello, you\" to ada@example.com about order #1042, see https://x.io/a?b=1."),
        [
            (Kind::Quoted, "Hello, you".to_owned()),
            (Kind::Email, "ada@example.com".to_owned()),
            (Kind::Id, "1042".to_owned()),
            (Kind::Url, "https://x.io/a?b=1".to_owned()),
        ]
    );
    assert_eq!(
        values("Refund $1,200.50 (20%) since 2026-03-01 for cus_8f3a2 and the third item"),
        [
            (Kind::Number, "1200.50".to_owned()),
            (Kind::Number, "20".to_owned()),
            (Kind::Date, "2026-03-01".to_owned()),
            (Kind::Id, "cus_8f3a2".to_owned()),
            (Kind::Ordinal, "3".to_owned()),
        ]
    );
    let name = |text: &str| values(text).into_iter().filter(|v| v.0 == Kind::Name).map(|v| v.1).collect::<Vec<_>>();
    assert_eq!(name("Who directed movies with Sofia Coppola?"), ["Sofia Coppola"]);
    assert_eq!(name("tell me the first season of House of Cards"), ["House of Cards"]);
    assert_eq!(name("Get reviews of Cate Blanchett's latest show"), ["Cate Blanchett"]);
    assert!(name("Get the report on Monday. Send it").is_empty());
    assert_eq!(values("don't touch the user's data or the 'quoted one'"), [(Kind::Quoted, "quoted one".to_owned())]);
}
