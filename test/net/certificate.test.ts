import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { certificateWarning, loadOrCreateAccess, ownPair } from '../../src/net/access.js';

const folder = mkdtempSync(join(tmpdir(), 'lantrain-certificate-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const at = (name: string) => join(folder, name);

beforeAll(async () => {
  await loadOrCreateAccess(folder);
  const key = (encrypted: object) =>
    generateKeyPairSync('ec', {
      namedCurve: 'P-256',
      privateKeyEncoding: { type: 'pkcs8', format: 'pem', ...encrypted },
      publicKeyEncoding: { type: 'spki', format: 'pem' },
    }).privateKey;
  writeFileSync(at('other.pem'), key({}));
  writeFileSync(at('encrypted.pem'), key({ cipher: 'aes-256-cbc', passphrase: 'secret' }));
  writeFileSync(at('old-encrypted.pem'), '-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n');
  writeFileSync(at('text.pem'), 'hello');
  writeFileSync(at('empty.pem'), '');
  writeFileSync(at('broken.pem'), '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
  writeFileSync(at('broken-key.pem'), '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n');
  writeFileSync(at('certificate.der'), new X509Certificate(readFileSync(at('certificate.pem'))).raw);
});

describe("a user's own certificate", () => {
  test("a user's own certificate is taken with its key", async () => {
    await expect(ownPair(at('certificate.pem'), at('key.pem'))).resolves.toHaveProperty('fingerprint');
  });

  test.each([
    ['a key that is encrypted', 'certificate.pem', 'encrypted.pem', /encrypted\.pem is encrypted.*openssl pkey/],
    ['a key encrypted as of old', 'certificate.pem', 'old-encrypted.pem', /old-encrypted\.pem is encrypted/],
    ['a key of another certificate', 'certificate.pem', 'other.pem', /other\.pem does not belong to the certificate/],
    ['the two exchanged', 'key.pem', 'certificate.pem', /key\.pem holds a key.*exchange --cert and --key/],
    ['a certificate that is a text', 'text.pem', 'key.pem', /text\.pem is no certificate in PEM/],
    ['a certificate in DER', 'certificate.der', 'key.pem', /certificate\.der is no certificate in PEM/],
    ['an empty certificate', 'empty.pem', 'key.pem', /empty\.pem is no certificate in PEM/],
    ['a damaged certificate', 'broken.pem', 'key.pem', /broken\.pem is damaged/],
    ['a key that is a text', 'certificate.pem', 'text.pem', /text\.pem is no private key in PEM/],
    ['a damaged key', 'certificate.pem', 'broken-key.pem', /broken-key\.pem is damaged/],
    [
      'a certificate that is not there',
      'nowhere.pem',
      'key.pem',
      /cannot use .*nowhere\.pem: no such file.*\(ENOENT\)$/,
    ],
    ['a key that is a folder', 'certificate.pem', '.', /cannot use .*: illegal operation on a directory \(EISDIR\)$/],
  ])("a user's own certificate is refused in one line: %s", async (_what, cert, key, message) => {
    const error = await ownPair(at(cert), at(key)).catch((error) => error);
    expect(error.code).toMatch(/^LT_CLUSTER_(CERTIFICATE|ACCESS)$/);
    expect(error.message).toMatch(message);
    expect(error.message).not.toMatch(/\n|PEM routines|asn1|error:|open '/);
  });

  test("a user's own certificate is warned of where its dates are over or to come", () => {
    const pem = readFileSync(at('certificate.pem'), 'utf8');
    const years = (n: number) => new Date(Date.now() + n * 365.25 * 86_400_000);
    expect(certificateWarning(pem)).toBeUndefined();
    expect(certificateWarning(pem, years(21))).toMatch(/expired on \d{4}-\d\d-\d\d/);
    expect(certificateWarning(pem, years(-1))).toMatch(/valid from \d{4}-\d\d-\d\d on/);
  });
});
