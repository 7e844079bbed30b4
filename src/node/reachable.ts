import { createSocket } from 'node:dgram';
import { readFile } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os';

export type Interfaces = Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>;

/** An address of this machine and its interface. */
export interface Reachable {
  /** IPv6 without brackets. */
  readonly address: string;
  readonly interface: string;
}

/** Interfaces of tunnels: only machines in the same tunnel reach them. */
const TUNNELS = [
  /^(tun|tap|utun|wg|ppp|ipsec|l2tp|gre|sit|ip6tnl|tailscale|zt|nordlynx|proton|nebula|ham|cscotun|gpd|warp)/i,
  /tailscale|zerotier|wireguard|openvpn|tap-windows|nordlynx|hamachi|anyconnect|globalprotect|\bvpn\b/i,
];

/** Interfaces of networks within this machine: containers, virtual machines, a shared connection. */
const INTERNAL = [
  /^(docker|br-[0-9a-f]{12}$|veth|virbr|vmnet|vboxnet|vnet|lxc|lxdbr|incusbr|podman|cni|nerdctl|flannel|cali|cilium)/,
  /^(kube|weave|mpqemubr|dummy|bridge\d|ap\d|awdl|llw|anpi)/,
  /^vEthernet \((WSL|Default Switch|nat\b|Docker)/i,
  /virtualbox|vmware|npcap loopback|^local area connection\*/i,
];

/**
 * The rank of networks: the LAN (0), tunnels (1), link-local addresses as on a cable between two machines (2), networks
 * within this machine (3), and link-local addresses of tunnels or of networks within (4).
 */
function networkRank(name: string, hasDefaultRoute: boolean, linkLocal: boolean): number {
  if (TUNNELS.some((pattern) => pattern.test(name))) return linkLocal ? 4 : 1;
  if (INTERNAL.some((pattern) => pattern.test(name)) && !hasDefaultRoute) return linkLocal ? 4 : 3;
  return linkLocal ? 2 : 0;
}

/** The rank of addresses on equal interfaces; `Infinity` for those that no other machine can use. */
function addressRank({ address, family, internal }: NetworkInterfaceInfo): number {
  if (internal) return Number.POSITIVE_INFINITY;
  if (family === 'IPv6') {
    return /^f[cd]/i.test(address) ? 3 : 4;
  }
  const [a, b] = address.split('.').map(Number);
  if (a === 10 || (a === 172 && b >= 16 && b < 32) || (a === 192 && b === 168)) return 0;
  // A carrier's network, as of a phone that shares its connection. Machines there often cannot reach each other.
  return a === 100 && b >= 64 && b < 128 ? 2 : 1;
}

/** Whether an address is valid on one link only (RFC 3927; RFC 4291, section 2.5.6). */
export function isLinkLocal(address: string): boolean {
  return /^169\.254\./.test(address) || /^fe[89ab]/i.test(address);
}

/**
 * The addresses by which other machines may reach this one, the likeliest first: those of the LAN, beginning with the
 * interfaces of `defaultRoutes`, then tunnels, link-local addresses, and networks within this machine. IPv6 addresses
 * that need an interface are listed only where there is no other address.
 */
export function rankAddresses(interfaces: Interfaces, defaultRoutes: readonly string[] = []): Reachable[] {
  const ranked = Object.entries(interfaces).flatMap(([name, infos = []]) => {
    const route = defaultRoutes.indexOf(name);
    return infos.map((info) => {
      const kind = addressRank(info);
      const linkLocal = isLinkLocal(info.address);
      const needsZone = linkLocal && info.family === 'IPv6';
      const address = needsZone ? `${info.address}%${name}` : info.address;
      const order = [networkRank(name, route >= 0, linkLocal), kind, route < 0 ? defaultRoutes.length : route];
      return { address, interface: name, kind, needsZone, order };
    });
  });
  const usable = ranked.filter(({ kind }) => Number.isFinite(kind));
  const zoneless = usable.filter(({ needsZone }) => !needsZone);
  return (zoneless.length > 0 ? zoneless : usable)
    .sort((a, b) => a.order.map((n, i) => n - b.order[i]).find((difference) => difference !== 0) ?? 0)
    .map(({ address, interface: name }) => ({ address, interface: name }));
}

/** The interfaces of default routes in the texts of Linux's /proc/net/route and /proc/net/ipv6_route, by metric. */
export function defaultRoutesOf(ipv4: string, ipv6: string): string[] {
  const routes: { readonly name: string; readonly metric: number }[] = [];
  for (const line of ipv4.split('\n').slice(1)) {
    const [name, destination, , , , , metric, mask] = line.trim().split(/\s+/);
    if (destination === '00000000' && mask === '00000000') routes.push({ name, metric: Number(metric) });
  }
  const byMetric = (a: { readonly metric: number }, b: { readonly metric: number }) => a.metric - b.metric;
  const six: typeof routes = [];
  for (const line of ipv6.split('\n')) {
    const [destination, length, , , , metric, , , , name] = line.trim().split(/\s+/);
    // The kernel's reject-all route is on lo.
    if (/^0{32}$/.test(destination) && length === '00' && name !== 'lo')
      six.push({ name, metric: Number.parseInt(metric, 16) });
  }
  return [...new Set([...routes.sort(byMetric), ...six.sort(byMetric)].map(({ name }) => name))];
}

/** Addresses reserved for documentation (RFC 5737, RFC 3849). They lead to the default route; nothing is sent. */
const ELSEWHERE = { udp4: '192.0.2.1', udp6: '2001:db8::1' } as const;

async function defaultRoutes(interfaces: Interfaces): Promise<string[]> {
  if (process.platform === 'linux') {
    const read = (name: string) => readFile(`/proc/net/${name}`, 'utf8').catch(() => '');
    return defaultRoutesOf(...(await Promise.all([read('route'), read('ipv6_route')])));
  }
  const sources = await Promise.all([sourceAddress('udp4'), sourceAddress('udp6')]);
  const names = Object.keys(interfaces);
  return names.filter((name) => interfaces[name]?.some(({ address }) => sources.includes(address)));
}

/** The address from which this machine would send. A connected UDP socket knows it without sending a packet. */
function sourceAddress(type: 'udp4' | 'udp6'): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket(type);
    const end = (address?: string) => {
      socket.close();
      resolve(address);
    };
    socket.once('error', () => end());
    socket.connect(9, ELSEWHERE[type], () => end(socket.address().address));
  });
}

/** `rankAddresses` of this machine, limited to addresses on which a socket that listens on `host` is reached. */
export async function reachableAddresses(host: string): Promise<Reachable[]> {
  const interfaces = networkInterfaces();
  const all = rankAddresses(interfaces, await defaultRoutes(interfaces));
  return host === '0.0.0.0' ? all.filter(({ address }) => !isIPv6(address)) : all;
}

/**
 * The address to listen on for all addresses: `::`, which includes IPv4, where this machine has IPv6, else `0.0.0.0`.
 */
export function anyAddress(interfaces: Interfaces = networkInterfaces()): string {
  return Object.values(interfaces).some((infos) => infos?.some(({ family }) => family === 'IPv6')) ? '::' : '0.0.0.0';
}
