/**
 * The person behind an address, by whom limits are counted. An IPv4 address counts whole, also in its IPv6 form. An
 * IPv6 address counts by its first 64 bits, because one machine has all addresses below them. Link-local addresses
 * share those bits and count whole, with their interface.
 *
 * `peerAddress`: an address, or an address with a port as `peerOf` gives it. Any other text is returned unchanged.
 */
export function personOf(peerAddress: string): string {
  const [, bracketed, plain] = /^(?:\[([^\]]*)\](?::\d+)?|([^:]*):\d+)$/.exec(peerAddress) ?? [];
  const address = bracketed ?? plain ?? peerAddress;
  if (!address.includes(':')) return address;
  const [bare, zone] = address.split(/%(?:25)?/);
  const groups = groupsOf(bare);
  if (groups === undefined) return address;
  const [first, ...rest] = groups;
  const isMapped = first === 0 && rest.slice(0, 4).every((group) => group === 0) && groups[5] === 0xffff;
  if (isMapped)
    return groups
      .slice(6)
      .flatMap((group) => [group >> 8, group & 0xff])
      .join('.');
  const isLoopback = first === 0 && rest.slice(0, 6).every((group) => group === 0);
  const isLinkLocal = (first & 0xffc0) === 0xfe80;
  const text = (count: number) =>
    groups
      .slice(0, count)
      .map((group) => group.toString(16))
      .join(':');
  if (isLoopback || isLinkLocal) return text(8) + (zone === undefined ? '' : `%${zone}`);
  return `${text(4)}::/64`;
}

/** The eight numbers of an IPv6 address; undefined for any other text. */
function groupsOf(address: string): number[] | undefined {
  let canonical: string;
  try {
    // Normalizes every spelling to hexadecimal groups.
    canonical = new URL(`http://[${address}]/`).hostname.slice(1, -1);
  } catch {
    return undefined;
  }
  const [head, tail] = canonical.split('::').map((part) => (part === '' ? [] : part.split(':')));
  const zeros = tail === undefined ? [] : Array<string>(8 - head.length - tail.length).fill('0');
  return [...head, ...zeros, ...(tail ?? [])].map((group) => Number.parseInt(group, 16));
}
