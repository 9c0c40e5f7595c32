//! A security key in software, written from the specification and not with the library that checks
//! it. It does what an honest browser and key would never do as well: say another origin, sign for a
//! domain above, leave the person unchecked, go back in its counter.

use std::cell::Cell;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

pub struct SoftKey {
    pair: EcdsaKeyPair,
    pub id: Vec<u8>,
    /// What it says next is one more; `None` for a key without a counter.
    pub counter: Cell<Option<u32>>,
    /// Whether it checks who holds it.
    pub verifies: bool,
    pub origin: String,
    pub rp_id: String,
    /// Whether the page that asks stands in a frame of another site.
    pub framed: bool,
    /// The account it was made for, which a passkey says and an old security key does not.
    pub handle: Option<Vec<u8>>,
}

impl SoftKey {
    /// For the site at `origin`, which has no port.
    pub fn new(id: u8, origin: &str) -> Self {
        Self {
            pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
            id: vec![id; 32],
            counter: Cell::new(Some(0)),
            verifies: true,
            origin: origin.to_owned(),
            rp_id: origin.split_once("://").unwrap().1.to_owned(),
            framed: false,
            handle: None,
        }
    }

    /// Makes the key for the question on `page`, and keeps whose it is.
    pub fn created(&mut self, page: &str) -> String {
        let asked = question(page);
        let user = asked["user"]["id"].as_str().unwrap();
        self.handle = Some(BASE64URL_NOPAD.decode(user.as_bytes()).unwrap());
        let mut attested = vec![0_u8; 16];
        attested.extend_from_slice(&u16::try_from(self.id.len()).unwrap().to_be_bytes());
        attested.extend_from_slice(&self.id);
        // COSE_Key: kty EC2, alg ES256, crv P-256, x, y (RFC 9052 section 7, RFC 9053 section 7.1).
        let point = self.pair.public_key().as_ref();
        attested.extend_from_slice(&[0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        attested.extend_from_slice(&point[1..33]);
        attested.extend_from_slice(&[0x22, 0x58, 0x20]);
        attested.extend_from_slice(&point[33..65]);
        let data = self.data(0x40, &attested);
        // {"fmt": "none", "attStmt": {}, "authData": bytes}
        let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59".to_vec();
        object.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        object.extend_from_slice(&data);
        let response = json!({
            "attestationObject": BASE64URL_NOPAD.encode(&object),
            "clientDataJSON": BASE64URL_NOPAD.encode(&self.client_data("webauthn.create", &asked)),
            "transports": ["usb"],
        });
        self.credential(&response)
    }

    /// Answers the question on `page`.
    pub fn answers(&self, page: &str) -> String {
        let asked = question(page);
        let data = self.data(0, &[]);
        let client = self.client_data("webauthn.get", &asked);
        let signed = [data.as_slice(), digest(&SHA256, &client).as_ref()].concat();
        let signature = self.pair.sign(&SystemRandom::new(), &signed).unwrap();
        let response = json!({
            "authenticatorData": BASE64URL_NOPAD.encode(&data),
            "clientDataJSON": BASE64URL_NOPAD.encode(&client),
            "signature": BASE64URL_NOPAD.encode(signature.as_ref()),
            "userHandle": self.handle.as_ref().map(|handle| BASE64URL_NOPAD.encode(handle)),
        });
        self.credential(&response)
    }

    fn credential(&self, response: &Value) -> String {
        let id = BASE64URL_NOPAD.encode(&self.id);
        json!({ "id": id, "rawId": id, "type": "public-key", "extensions": {}, "response": response }).to_string()
    }

    /// rpIdHash, flags, counter, and what is attested (WebAuthn section 6.1).
    fn data(&self, flags: u8, attested: &[u8]) -> Vec<u8> {
        let counter = match self.counter.get() {
            Some(last) => {
                self.counter.set(Some(last + 1));
                last + 1
            }
            None => 0,
        };
        let verified = if self.verifies { 0x04 } else { 0 };
        let mut data = digest(&SHA256, self.rp_id.as_bytes()).as_ref().to_vec();
        data.push(0x01 | verified | flags);
        data.extend_from_slice(&counter.to_be_bytes());
        data.extend_from_slice(attested);
        data
    }

    fn client_data(&self, kind: &str, asked: &Value) -> Vec<u8> {
        json!({ "type": kind, "challenge": asked["challenge"], "origin": self.origin, "crossOrigin": self.framed })
            .to_string()
            .into_bytes()
    }
}

/// What the page's script would hand to the browser.
pub fn question(page: &str) -> Value {
    let attribute = page.split("data-options=\"").nth(1).unwrap_or_else(|| panic!("no key is asked: {page}"));
    let text = attribute.split('"').next().unwrap().replace("&quot;", "\"").replace("&#39;", "'");
    serde_json::from_str(&text.replace("&amp;", "&")).unwrap()
}
