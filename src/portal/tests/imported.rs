//! People who came from another system with the password and the phone that they had there.

use super::{Gate, LOGIN};
use crate::auth::factors::TotpKey;
use crate::auth::import::{Newcomer, OldPassword, OldPhone};
use crate::auth::users::Draft;
use crate::base::secret::Secret;
use crate::crypto::{Scheme, is_own};
use crate::domain::user::{User, UserName, UserStatus};

const PASSWORD: &str = "correct horse battery";
/// Of that password, by argon2-cffi and by Python's bcrypt.
const ARGON2ID: &str =
    "$argon2id$v=19$m=8192,t=3,p=4$BSFCGQcUPDETVN8gHw8yUw$FfshKaXRH+d87f2LnJtLw1FQUSK+YV9tkeqFf4+qhm4";
const BCRYPT: &str = "$2b$05$sFK8hRs3Lowtj5.zEGcAvevyZ3Nd2fMpomAanv6A5z1KAFXhQYbCC";
/// Of another one, by Drepper's paper.
const SHA512: &str =
    "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";

fn newcomer(name: &str, hash: &str, phones: Vec<OldPhone>) -> Newcomer {
    let draft = Draft { name: UserName::parse(name).unwrap(), display: String::new(), email: None, groups: Vec::new() };
    let scheme = Scheme::of(hash).unwrap();
    Newcomer { draft, disabled: false, old: Some(OldPassword { hash: Secret::new(hash.to_owned()), scheme, phones }) }
}

fn phone() -> OldPhone {
    let key = TotpKey::imported(vec![7; 32], 8, 60, "SHA512").unwrap();
    OldPhone { key, label: "Authelia".to_owned() }
}

async fn arrive(gate: &Gate, people: Vec<Newcomer>) -> Vec<User> {
    let auth = &gate.world.auth;
    let arrived = auth.import(&gate.world.operator(), &gate.world.snapshot, people, Vec::new()).await.unwrap();
    arrived.into_iter().map(|arrival| arrival.user).collect()
}

#[tokio::test]
async fn somebody_who_was_imported_signs_in_as_before_and_their_hash_becomes_one_of_ours() {
    let gate = Gate::new().await;
    let users = arrive(&gate, vec![newcomer("john", BCRYPT, vec![phone()])]).await;
    let stored = async || gate.world.auth.store.password_hash(users[0].id).await.unwrap().unwrap();
    assert_eq!(stored().await, BCRYPT);

    let john = gate.browser();
    let page = john.gives_password(None, "john", "correct horse batterx").await;
    assert!(page.says("do not match"));
    assert_eq!(stored().await, BCRYPT, "a wrong password renews nothing");

    // What the phone showed at the moment of the import may have been used where he came from.
    let old = phone().key;
    let page = john.gives_password(None, "john", PASSWORD).await;
    assert!(page.says("open the entry “Authelia (john)”"), "the entry that he has: {}", page.body);
    let seen = john.submit(&page, "/.stepgate/login/totp", &[("code", &gate.world.code(&old))]).await;
    assert!(!john.has_session("login.corp.example"), "{}", seen.body);
    gate.world.later(60);
    let seen = john.submit(&page, "/.stepgate/login/totp", &[("code", &gate.world.code(&old))]).await;
    assert!(john.has_session("login.corp.example"), "{}", seen.body);

    assert!(is_own(&stored().await));
    assert!(gate.world.auth.store.imported_schemes().await.unwrap().is_empty());
    assert!(gate.world.trail().await.iter().any(|row| row.contains("password_rehash")));
    let again = gate.browser();
    gate.world.later(60);
    let page = again.gives_password(None, "john", PASSWORD).await;
    again.submit(&page, "/.stepgate/login/totp", &[("code", &gate.world.code(&old))]).await;
    assert!(again.has_session("login.corp.example"));
}

#[tokio::test]
async fn s_login_1_while_hashes_of_other_systems_are_left_every_name_costs_each_of_their_schemes() {
    let gate = Gate::new().await;
    let people = [("john", BCRYPT), ("mia", ARGON2ID), ("lee", SHA512)];
    let users = arrive(&gate, people.map(|(name, hash)| newcomer(name, hash, Vec::new())).into()).await;
    gate.world.user("ann").await;
    gate.world.auth.set_enabled(&gate.world.operator(), &users[1], false).await.unwrap();
    let stranger = gate.browser();
    let page = stranger.get(&format!("{LOGIN}/.stepgate/login")).await;
    let cost = async |name: &str, password: &str| {
        let before = gate.world.auth.passwords.hashes_run();
        stranger.send_form(&page, "/.stepgate/login", &[("username", name), ("password", password)]).await;
        gate.world.auth.passwords.hashes_run() - before
    };
    // A hash of ours, a bcrypt, an argon2id and a SHA-512-crypt of theirs: imported, disabled and right, ours, nobody.
    for (name, password) in
        [("john", "wrong"), ("lee", "wrong"), ("mia", PASSWORD), ("ann", "wrong"), ("zoe", "wrong"), ("a,b", "x")]
    {
        assert_eq!(cost(name, password).await, 4, "{name}: another amount of work");
    }
    for gone in &users[1..] {
        gate.world.auth.remove_user(&gate.world.operator(), gone).await.unwrap();
    }
    assert_eq!(cost("john", PASSWORD).await, 3, "two checks and the new hash");
    assert_eq!(cost("eve", "wrong").await, 1, "the last of them signed in");
}

#[tokio::test]
async fn an_import_is_whole_or_nothing() {
    let gate = Gate::new().await;
    gate.world.user("Mia").await;
    let people = vec![newcomer("john", BCRYPT, vec![phone()]), newcomer("mia", ARGON2ID, Vec::new())];
    let refused =
        gate.world.auth.import(&gate.world.operator(), &gate.world.snapshot, people, Vec::new()).await.err().unwrap();
    assert!(refused.to_string().contains("mia: the account Mia differs"), "{refused}");
    let names: Vec<String> =
        gate.world.auth.store.users().await.unwrap().iter().map(|user| user.name.to_string()).collect();
    assert_eq!(names, ["Mia"]);
    assert!(!gate.world.trail().await.iter().any(|row| row.contains("imported")));
}

#[tokio::test]
async fn s_enr_1_somebody_without_a_usable_password_gets_a_sign_up_link_and_nothing_of_old() {
    let gate = Gate::new().await;
    let weak = Newcomer { old: None, ..newcomer("eve", BCRYPT, Vec::new()) };
    let off = Newcomer { old: None, disabled: true, ..newcomer("bob", BCRYPT, Vec::new()) };
    let auth = &gate.world.auth;
    let arrived = auth.import(&gate.world.operator(), &gate.world.snapshot, vec![weak, off], Vec::new()).await.unwrap();
    assert!(arrived[0].link.as_ref().is_some_and(|link| link.kind == crate::store::LinkKind::SignUp));
    assert!(arrived[1].link.is_none(), "a link to a disabled account opens nothing");
    assert_eq!(gate.world.again(&arrived[1].user).await.status, UserStatus::Disabled);
    let eve = gate.world.again(&arrived[0].user).await;
    assert!(eve.first_login_until.is_none() && !eve.ever_enrolled);
    assert_eq!(auth.store.password_hash(eve.id).await.unwrap(), None);
}
