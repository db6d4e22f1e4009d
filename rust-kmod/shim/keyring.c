// SPDX-License-Identifier: GPL-2.0
/* Keyrings of the module's own, one for each certificate, and the kernel's own CMS verification. */

#include <linux/cred.h>
#include <linux/key.h>
#include <linux/module.h>
#include <linux/verification.h>
#include <crypto/sha2.h>
#include <keys/asymmetric-type.h>

#include "shim.h"

/* Written by scripts/keys: MODULE_INFO() for each certificate, KCARE_CERTS, KCARE_DEVELOPMENT. */
#include KCARE_CERT_H

const char *kcare_certs(void)
{
	return KCARE_CERTS;
}

bool kcare_certs_development(void)
{
	return KCARE_DEVELOPMENT;
}

struct key *kcare_keyring_new(const void *cert, size_t size)
{
	key_perm_t perm = (KEY_POS_ALL & ~KEY_POS_SETATTR) | KEY_USR_VIEW | KEY_USR_READ;
	struct key *keyring = keyring_alloc(".kcare", GLOBAL_ROOT_UID, GLOBAL_ROOT_GID, current_cred(),
					    perm | KEY_USR_SEARCH, KEY_ALLOC_NOT_IN_QUOTA, NULL, NULL);
	key_ref_t key;

	if (IS_ERR(keyring))
		return keyring;
	key = key_create_or_update(make_key_ref(keyring, true), "asymmetric", NULL, cert, size, perm,
				   KEY_ALLOC_NOT_IN_QUOTA | KEY_ALLOC_BYPASS_RESTRICTION);
	if (IS_ERR(key)) {
		key_put(keyring);
		return ERR_CAST(key);
	}
	key_ref_put(key);
	return keyring;
}

void kcare_keyring_put(struct key *keyring)
{
	key_put(keyring);
}

int kcare_keyring_verify(struct key *keyring, const void *data, size_t size,
			 const void *sig, size_t sig_size)
{
	return verify_pkcs7_signature(data, size, sig, sig_size, keyring,
				      VERIFYING_MODULE_SIGNATURE, NULL, NULL);
}

void kcare_sha256(const void *data, size_t size, u8 hash[32])
{
	sha256(data, size, hash);
}
