//! Logins of the emulated service: device codes, authorization codes, rotating refresh tokens.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{CLIENT_ID, Form, Switches};

#[derive(Clone, Debug)]
struct Device {
    user_code: String,
    ends_s: i64,
    approved: Option<bool>,
}

#[derive(Clone, Debug)]
struct Grant {
    redirect_uri: String,
    challenge: String,
}

/// All tokens that were ever given out.
#[derive(Clone, Debug, Default)]
pub struct Oauth {
    /// When each access token ends, in seconds.
    access: BTreeMap<String, i64>,
    /// Refresh tokens that still work.
    refresh: BTreeSet<String>,
    used_refresh: BTreeSet<String>,
    devices: BTreeMap<String, Device>,
    codes: BTreeMap<String, Grant>,
    serial: u64,
    /// How often a pair was renewed.
    pub rotations: u64,
}

/// Status and body.
pub type Reply = (u16, Value);

fn refuse(status: u16, error: &str) -> Reply {
    (status, json!({ "error": error }))
}

impl Oauth {
    fn serial(&mut self, prefix: &str) -> String {
        self.serial += 1;
        // Long and odd enough to be found in a log where it should not be.
        format!("{prefix}-s3cr3t-{:06}", self.serial)
    }

    pub fn issue(&mut self, now_s: i64, switches: &Switches) -> Value {
        let access_token = self.serial("access");
        let refresh_token = self.serial("refresh");
        self.access.insert(access_token.clone(), now_s + switches.access_ttl_s);
        self.refresh.insert(refresh_token.clone());
        json!({
            "access_token": access_token, "refresh_token": refresh_token, "token_type": "Bearer",
            "expires_in": switches.access_ttl_s, "scope": "user.read files.app_data"
        })
    }

    pub fn accepts(&self, token: &str, now_s: i64) -> bool {
        self.access.get(token).is_some_and(|ends| *ends > now_s)
    }

    /// Every access token ends now; refresh tokens stay.
    pub fn expire_access(&mut self) {
        self.access.clear();
    }

    pub fn revoke_all(&mut self) {
        self.access.clear();
        self.refresh.clear();
    }

    /// All secrets, to be looked for in logs.
    pub fn secrets(&self) -> Vec<String> {
        let tokens = self.access.keys().chain(&self.refresh).chain(&self.used_refresh);
        tokens.cloned().collect()
    }

    pub fn token(&mut self, form: &Form, now_s: i64, switches: &Switches) -> Reply {
        if form.one("client_id") != Some(CLIENT_ID) {
            return refuse(401, "invalid_client");
        }
        match form.one("grant_type") {
            Some("refresh_token") => self.renew(form, now_s, switches),
            Some("authorization_code") => self.redeem(form, now_s, switches),
            Some(_) | None => refuse(400, "unsupported_grant_type"),
        }
    }

    fn renew(&mut self, form: &Form, now_s: i64, switches: &Switches) -> Reply {
        let shown = form.one("refresh_token").unwrap_or_default();
        if self.used_refresh.contains(shown) {
            // Somebody has stolen it, as far as the service can tell.
            if switches.reuse_revokes {
                self.revoke_all();
            }
            return refuse(400, "invalid_grant");
        }
        if !self.refresh.remove(shown) {
            return refuse(400, "invalid_grant");
        }
        self.used_refresh.insert(shown.to_owned());
        self.rotations += 1;
        (200, self.issue(now_s, switches))
    }

    fn redeem(&mut self, form: &Form, now_s: i64, switches: &Switches) -> Reply {
        let Some(grant) = form.one("code").and_then(|code| self.codes.remove(code)) else {
            return refuse(400, "invalid_grant");
        };
        let verifier = form.one("code_verifier").unwrap_or_default();
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        if challenge != grant.challenge || form.one("redirect_uri") != Some(&grant.redirect_uri) {
            return refuse(400, "invalid_grant");
        }
        (200, self.issue(now_s, switches))
    }

    /// What the person's browser does at `/oauth/authorize`; the answer is where it is sent.
    pub fn authorize(&mut self, query: &Form, allow: bool) -> Result<String, &'static str> {
        let redirect = query.one("redirect_uri").unwrap_or_default().to_owned();
        let state = query.one("state").unwrap_or_default();
        if !redirect.starts_with("http://127.0.0.1:") {
            return Err("invalid_redirect_uri");
        }
        if query.one("response_type") != Some("code") || query.one("client_id") != Some(CLIENT_ID) {
            return Err("invalid_request");
        }
        if query.one("code_challenge_method") != Some("S256") {
            return Err("a desktop application must use PKCE");
        }
        if !allow {
            return Ok(format!("{redirect}?error=access_denied&state={state}"));
        }
        let code = self.serial("code");
        let challenge = query.one("code_challenge").unwrap_or_default().to_owned();
        self.codes.insert(code.clone(), Grant { redirect_uri: redirect.clone(), challenge });
        Ok(format!("{redirect}?code={code}&state={state}"))
    }

    pub fn device_code(&mut self, form: &Form, now_s: i64, base: &str) -> Reply {
        if form.one("client_id") != Some(CLIENT_ID) {
            return refuse(401, "invalid_client");
        }
        let device_code = self.serial("device");
        let user_code = format!("8KXH-{:04}", self.serial % 10_000);
        let page = format!("{base}/oauth/device");
        let reply = json!({
            "device_code": device_code, "user_code": user_code, "verification_uri": page,
            "verification_uri_complete": format!("{page}?user_code={user_code}"),
            "qr_url": "https://api.qrserver.com/v1/create-qr-code/?size=240x240&data=...",
            "expires_in": 600, "interval": 1
        });
        let device = Device { user_code, ends_s: now_s + 600, approved: None };
        self.devices.insert(device_code, device);
        (200, reply)
    }

    /// What the person does with the code. `None` stands for any code.
    pub fn decide(&mut self, user_code: Option<&str>, allow: bool) -> bool {
        let matches = |device: &&mut Device| user_code.is_none_or(|code| device.user_code == code);
        let Some(device) = self.devices.values_mut().find(matches) else { return false };
        device.approved = Some(allow);
        true
    }

    pub fn device_token(&mut self, form: &Form, now_s: i64, switches: &Switches) -> Reply {
        let status = if switches.pending_is_200 { 200 } else { 400 };
        let code = form.one("device_code").unwrap_or_default().to_owned();
        let Some(device) = self.devices.get(&code) else { return refuse(status, "expired_token") };
        if device.ends_s <= now_s {
            return refuse(status, "expired_token");
        }
        match device.approved {
            None => refuse(status, "authorization_pending"),
            Some(false) => refuse(status, "access_denied"),
            Some(true) => {
                self.devices.remove(&code);
                (200, self.issue(now_s, switches))
            }
        }
    }
}
