/** What to do about a page that was loaded over plain HTTP from `host`: one string a paragraph. */
export function insecure(host: string): readonly string[] {
  return [
    `Browsers let a page prove its token and use the GPU only over HTTPS, or on the machine itself. This page came over plain HTTP from ${host}.`,
    'Whoever runs the coordinator can start it without --plain; then open the https:// link that it prints.',
    CERTIFICATE,
  ];
}

/** The meaning of the browser's warning about the coordinator's certificate. */
export const CERTIFICATE =
  'The browser will warn of the certificate: the coordinator made it itself, and no authority vouches for it. ' +
  'Compare the SHA-256 fingerprint that the browser shows with the one that the coordinator printed; if they are equal, go on. ' +
  'To have no warning, the coordinator can be started with a certificate that your devices trust: --cert FILE --key FILE, for example from mkcert.';
