//! How does an app know that the identity headers come from us? By a JWT signed with a key whose
//! public half stands at `/.stepgate/jwks.json` (S-ID-6).

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, EllipticCurveKeyType, Jwk,
    JwkSet, KeyAlgorithm, PublicKeyUse, ThumbprintHash,
};
use jsonwebtoken::{Algorithm, Header};
use serde::Serialize;

use super::keyring::KeyRing;
use crate::base::clock::Timestamp;
use crate::base::ids::{SessionId, UserId};

/// How long an assertion is good for; minted anew at half of it.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// The `typ` of every assertion: no other token of ours can stand in for one (RFC 8725 section 3.11).
pub const TYP: &str = "stepgate-assertion+jwt";

/// What an app is told. Everything comes from the session, the policy and the configuration;
/// nothing from the request.
#[derive(Clone, Debug)]
pub struct AssertionClaims {
    /// The gate: the portal's origin, or the app's own where there is no portal.
    pub issuer: String,
    /// The app's name: an assertion made for another app must not pass.
    pub audience: String,
    pub subject: UserId,
    /// The sign-in name.
    pub username: String,
    pub name: String,
    pub email: Option<String>,
    pub groups: Vec<String>,
    /// RFC 8176 values.
    pub amr: Vec<&'static str>,
    /// The level that the rule asked for.
    pub acr: String,
    /// When the person last showed a factor.
    pub auth_time: Timestamp,
    pub session: SessionId,
    pub issued_at: Timestamp,
}

/// Signs assertions with the current key of the ring.
pub struct AssertionSigner {
    key: EcdsaKeyPair,
    /// Encoded, with the dot behind it.
    header: String,
    jwks: String,
}

/// Claims as they stand in the token: RFC 7519 and OpenID Connect Core names.
#[derive(Serialize)]
struct Wire<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: UserId,
    preferred_username: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    groups: &'a [String],
    amr: &'a [&'static str],
    acr: &'a str,
    auth_time: i64,
    sid: SessionId,
    iat: i64,
    exp: i64,
}

impl AssertionSigner {
    /// The key set holds every key of the ring, so that what an older one signed in the minute
    /// before a rotation still verifies.
    #[must_use]
    #[expect(clippy::expect_used, reason = "ringfile refuses a ring whose assertion keys are not P-256 keys")]
    pub fn from_ring(ring: &KeyRing) -> Self {
        let pair = |pkcs8: &[u8]| {
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).expect("the ring holds P-256 keys")
        };
        let keys: Vec<Jwk> = ring.keys().map(|k| public_jwk(&pair(k.assertion.expose()))).collect();
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(TYP.to_owned());
        header.kid = keys.first().and_then(|k| k.common.key_id.clone());
        let header = serde_json::to_vec(&header).expect("a header of texts serialises");
        Self {
            key: pair(ring.current().assertion.expose()),
            header: BASE64URL_NOPAD.encode(&header) + ".",
            jwks: serde_json::to_string(&JwkSet { keys }).expect("a key set of texts serialises"),
        }
    }

    /// A compact JWS that is good for [`LIFETIME`] from `issued_at`. Costs about 12 microseconds:
    /// keep the result for half its life.
    #[must_use]
    #[expect(clippy::expect_used, reason = "texts and numbers serialise; a P-256 key that was loaded signs")]
    pub fn sign(&self, claims: &AssertionClaims) -> String {
        let wire = Wire {
            iss: &claims.issuer,
            aud: &claims.audience,
            sub: claims.subject,
            preferred_username: &claims.username,
            name: &claims.name,
            email: claims.email.as_deref(),
            groups: &claims.groups,
            amr: &claims.amr,
            acr: &claims.acr,
            auth_time: claims.auth_time.as_secs(),
            sid: claims.session,
            iat: claims.issued_at.as_secs(),
            exp: claims.issued_at.plus(LIFETIME).as_secs(),
        };
        let mut token = self.header.clone();
        BASE64URL_NOPAD.encode_append(&serde_json::to_vec(&wire).expect("claims serialise"), &mut token);
        // Not jsonwebtoken::encode: it parses the PKCS#8 again for each token.
        let signature = self.key.sign(&SystemRandom::new(), token.as_bytes()).expect("the key signs");
        token.push('.');
        BASE64URL_NOPAD.encode_append(signature.as_ref(), &mut token);
        token
    }

    /// The JWK Set (RFC 7517) for apps, as JSON.
    #[must_use]
    pub fn jwks(&self) -> &str {
        &self.jwks
    }
}

#[expect(clippy::expect_used, reason = "the thumbprint of a P-256 key is always defined (RFC 7638)")]
fn public_jwk(pair: &EcdsaKeyPair) -> Jwk {
    // SEC 1 section 2.3.3, uncompressed: 0x04, x, y.
    let point = pair.public_key().as_ref();
    let coordinate = |from: usize| BASE64URL_NOPAD.encode(point.get(from..from + 32).unwrap_or_default());
    let mut jwk = Jwk {
        common: CommonParameters {
            public_key_use: Some(PublicKeyUse::Signature),
            key_algorithm: Some(KeyAlgorithm::ES256),
            ..CommonParameters::default()
        },
        algorithm: AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
            key_type: EllipticCurveKeyType::EC,
            curve: EllipticCurve::P256,
            x: coordinate(1),
            y: coordinate(33),
        }),
    };
    jwk.common.key_id = Some(jwk.thumbprint(ThumbprintHash::SHA256).expect("a P-256 key has a thumbprint"));
    jwk
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;
    use crate::base::rng::SystemRng;

    fn now() -> Timestamp {
        Timestamp::from_secs(1_795_000_000)
    }

    fn claims() -> AssertionClaims {
        AssertionClaims {
            issuer: "https://login.corp.example".into(),
            audience: "payroll".into(),
            subject: UserId::new(now(), &SystemRng),
            username: "ann".into(),
            name: "Ann \"Zoë\" O'Hara".into(),
            email: None,
            groups: vec!["staff".into()],
            amr: vec!["pwd", "otp"],
            acr: "mfa".into(),
            auth_time: now(),
            session: SessionId::new(now(), &SystemRng),
            issued_at: now(),
        }
    }

    /// What an app does with a stock library: the key by `kid`, one algorithm, its own name.
    fn app_reads(app: &str, token: &str, jwks: &str) -> Result<serde_json::Value, String> {
        let keys: JwkSet = serde_json::from_str(jwks).unwrap();
        let header = jsonwebtoken::decode_header(token).map_err(|e| e.to_string())?;
        if header.typ.as_deref() != Some(TYP) {
            return Err("typ".into());
        }
        let key = keys.find(header.kid.as_deref().unwrap_or("")).ok_or("kid")?;
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_audience(&[app]);
        rules.validate_exp = false; // the test's clock is not the machine's
        let key = DecodingKey::from_jwk(key).map_err(|e| e.to_string())?;
        jsonwebtoken::decode::<serde_json::Value>(token, &key, &rules).map(|t| t.claims).map_err(|e| e.to_string())
    }

    #[test]
    fn s_id_6_a_stock_library_verifies_it_with_the_published_key() {
        let signer = AssertionSigner::from_ring(&KeyRing::ephemeral(&SystemRng));
        let claims = claims();
        let read = app_reads("payroll", &signer.sign(&claims), signer.jwks()).unwrap();
        assert_eq!(read["sub"], claims.subject.to_string());
        assert_eq!(read["name"], claims.name);
        assert_eq!(read["acr"], "mfa");
        assert_eq!(read["amr"], serde_json::json!(["pwd", "otp"]));
        let life = read["exp"].as_i64().unwrap() - read["iat"].as_i64().unwrap();
        assert!(life > 0 && life <= 60, "{life}");
    }

    #[test]
    fn s_id_6_another_app_another_gate_or_another_kind_of_token_does_not_pass() {
        let ring = KeyRing::ephemeral(&SystemRng);
        let signer = AssertionSigner::from_ring(&ring);
        let token = signer.sign(&claims());
        assert_eq!(app_reads("wiki", &token, signer.jwks()), Err("InvalidAudience".into()));
        let stranger = AssertionSigner::from_ring(&KeyRing::ephemeral(&SystemRng));
        assert_eq!(app_reads("payroll", &token, stranger.jwks()), Err("kid".into()));
        let session = ring.sign_session_jwt(b"{\"aud\":\"payroll\",\"exp\":9}");
        assert_eq!(app_reads("payroll", &session, signer.jwks()), Err("typ".into()));
    }

    #[test]
    fn s_id_6_the_published_keys_are_public() {
        let signer = AssertionSigner::from_ring(&KeyRing::ephemeral(&SystemRng));
        let set: serde_json::Value = serde_json::from_str(signer.jwks()).unwrap();
        let mut fields: Vec<_> = set["keys"][0].as_object().unwrap().keys().cloned().collect();
        fields.sort();
        assert_eq!(fields, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
        // RFC 7638: the name of a key follows from the key.
        let key = &set["keys"][0];
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, key["x"], key["y"]);
        assert_eq!(key["kid"], BASE64URL_NOPAD.encode(&crate::crypto::sha256(canonical.as_bytes())));
    }
}
