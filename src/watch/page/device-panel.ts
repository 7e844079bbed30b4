/**
 * How the page loads the panel that joins a cluster with this device. The panel is a bundle of its own: the page knows
 * its name and this type, and nothing of clusters.
 */

/**
 * Fills `container` with "Join with this device" and, once joined, with what the device does. `joinUrl` is the page's
 * own link for others, with the token.
 */
export type MountDevicePanel = (container: HTMLElement, joinUrl: string) => void;

/** As the page's server names the bundle. */
const SCRIPT = '/device-panel.js';

export async function loadDevicePanel(): Promise<MountDevicePanel> {
  const panel: { readonly mountDevicePanel: MountDevicePanel } = await import(SCRIPT);
  return panel.mountDevicePanel;
}
