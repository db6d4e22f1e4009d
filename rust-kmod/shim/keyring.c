// SPDX-License-Identifier: GPL-2.0
/* The module's own keyring and the kernel's own CMS verification. */

#include <linux/cred.h>
#include <linux/key.h>
#include <linux/module.h>
#include <linux/verification.h>
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

struct key *kcare_keyring_new(void)
{
	key_perm_t perm = (KEY_POS_ALL & ~KEY_POS_SETATTR) | KEY_USR_VIEW | KEY_USR_READ | KEY_USR_SEARCH;

	return keyring_alloc(".kcare", GLOBAL_ROOT_UID, GLOBAL_ROOT_GID, current_cred(), perm,
			     KEY_ALLOC_NOT_IN_QUOTA, NULL, NULL);
}

int kcare_keyring_add(struct key *keyring, const void *cert, size_t size)
{
	key_ref_t key = key_create_or_update(make_key_ref(keyring, true), "asymmetric", NULL, cert, size,
					     (KEY_POS_ALL & ~KEY_POS_SETATTR) | KEY_USR_VIEW | KEY_USR_READ,
					     KEY_ALLOC_NOT_IN_QUOTA | KEY_ALLOC_BYPASS_RESTRICTION);

	if (IS_ERR(key))
		return PTR_ERR(key);
	key_ref_put(key);
	return 0;
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
