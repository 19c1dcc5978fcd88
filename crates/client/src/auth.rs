//! Tokens, and the calls that manage users and roles.

use parking_lot::{Mutex, RwLock};
use proto::etcdserverpb::*;
use tonic::Status;
use tonic::metadata::{Ascii, MetadataValue};

use crate::Client;
use crate::call::calls;
use crate::error::Error;

/// The token that calls carry.
pub(crate) struct Tokens {
    current: RwLock<Option<MetadataValue<Ascii>>>,
    /// Whether name and password were exchanged already, or need no exchange.
    logged_in: Mutex<bool>,
}

impl Tokens {
    pub fn new(given: Option<&str>) -> Tokens {
        let current = given.and_then(|token| token.parse().ok());
        Tokens { current: RwLock::new(current), logged_in: Mutex::new(false) }
    }

    pub fn current(&self) -> Option<MetadataValue<Ascii>> {
        self.current.read().clone()
    }
}

impl Client {
    /// Exchanges name and password for a token, once. A cluster without authentication is fine too.
    pub async fn log_in(&self) -> Result<(), Error> {
        if self.config().user.is_none() || *self.tokens().logged_in.lock() {
            return Ok(());
        }
        self.renew_token().await
    }

    async fn renew_token(&self) -> Result<(), Error> {
        let Some((name, password)) = self.config().user.clone() else { return Ok(()) };
        // Set first: the exchange is itself a call.
        *self.tokens().logged_in.lock() = true;
        *self.tokens().current.write() = None;
        let dialling = self.with_timeout(self.config().dial_timeout);
        let token = match Box::pin(dialling.authenticate(AuthenticateRequest { name, password })).await {
            Ok(response) => response.token.parse().ok(),
            Err(error) if error.is("etcdserver: authentication is not enabled") => None,
            Err(error) => {
                *self.tokens().logged_in.lock() = false;
                return Err(error);
            }
        };
        *self.tokens().current.write() = token;
        Ok(())
    }

    /// Whether the call failed for its token only, and there is a new one now (or, for clients that
    /// are known by their certificate, the members merely changed their books meanwhile).
    pub(crate) async fn renews_token_after(&self, status: &Status) -> Result<bool, Error> {
        let given = self.config().token.is_some();
        let stale = match status.message() {
            "etcdserver: user name is empty" => self.config().user.is_some(),
            "etcdserver: invalid auth token" | "etcdserver: revision of auth store is old" => !given,
            _ => false,
        };
        if stale {
            self.renew_token().await?;
        }
        Ok(stale)
    }
}

calls! {
    authenticate(AuthenticateRequest) -> AuthenticateResponse: "/etcdserverpb.Auth/Authenticate", OnlyUnsent;
    auth_enable(AuthEnableRequest) -> AuthEnableResponse: "/etcdserverpb.Auth/AuthEnable", OnlyUnsent;
    auth_disable(AuthDisableRequest) -> AuthDisableResponse: "/etcdserverpb.Auth/AuthDisable", OnlyUnsent;
    auth_status(AuthStatusRequest) -> AuthStatusResponse: "/etcdserverpb.Auth/AuthStatus", OnlyUnsent;
    user_add(AuthUserAddRequest) -> AuthUserAddResponse: "/etcdserverpb.Auth/UserAdd", OnlyUnsent;
    user_get(AuthUserGetRequest) -> AuthUserGetResponse: "/etcdserverpb.Auth/UserGet", Harmless;
    user_list(AuthUserListRequest) -> AuthUserListResponse: "/etcdserverpb.Auth/UserList", Harmless;
    user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse: "/etcdserverpb.Auth/UserDelete", OnlyUnsent;
    user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse:
        "/etcdserverpb.Auth/UserChangePassword", OnlyUnsent;
    user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse:
        "/etcdserverpb.Auth/UserGrantRole", OnlyUnsent;
    user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse:
        "/etcdserverpb.Auth/UserRevokeRole", OnlyUnsent;
    role_add(AuthRoleAddRequest) -> AuthRoleAddResponse: "/etcdserverpb.Auth/RoleAdd", OnlyUnsent;
    role_get(AuthRoleGetRequest) -> AuthRoleGetResponse: "/etcdserverpb.Auth/RoleGet", Harmless;
    role_list(AuthRoleListRequest) -> AuthRoleListResponse: "/etcdserverpb.Auth/RoleList", Harmless;
    role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse: "/etcdserverpb.Auth/RoleDelete", OnlyUnsent;
    role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse:
        "/etcdserverpb.Auth/RoleGrantPermission", OnlyUnsent;
    role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse:
        "/etcdserverpb.Auth/RoleRevokePermission", OnlyUnsent;
}
