import QRCode from 'qrcode';
import { isLoopback } from '../net/loopback.js';
import type { WatchEvent } from '../run/events.js';
import { formatFragment } from '../watch/messages.js';

/** The readers of a run's lines. */
export interface Readers {
  /** The lines go to a terminal, which only the person at it reads. */
  readonly isPrivate: boolean;
  /** Standard output is a terminal. */
  readonly isTerminal: boolean;
}

/** The lines that say where the run can be watched and controlled; on a terminal also as a QR code for a phone. */
export function watchLines(event: WatchEvent, { isPrivate, isTerminal }: Readers): string[] {
  const { host, address, secrets } = event;
  if (address === undefined)
    return [`watch    browsers open no address with an interface in it (${host}); [::]:PORT has one for them too`];
  const watch = `${address}${formatFragment({ ...secrets, admin: '' })}`;
  const lines = [`watch    ${watch}`, `admin    ${adminLink(address, event, isPrivate)}`];
  return isLoopback(host) || !isTerminal ? lines : [...lines, ...qrLines(watch)];
}

/**
 * The link that controls the run, on a terminal only. Logs are read by others, so there the token's file is named
 * instead.
 */
function adminLink(address: string, { secrets, adminFile }: WatchEvent, isPrivate: boolean): string {
  if (isPrivate) return `${address}${formatFragment(secrets)}`;
  return `${address}${formatFragment({ ...secrets, admin: 'ADMIN' })} with what is in ${adminFile} for ADMIN`;
}

function qrLines(text: string): string[] {
  let drawn = '';
  // With a callback it is drawn synchronously, so the order of lines is kept.
  QRCode.toString(text, { type: 'utf8', errorCorrectionLevel: 'L' }, (error, code) => {
    if (error) throw error;
    drawn = code;
  });
  return drawn.split('\n').filter((line) => line.trim() !== '');
}
