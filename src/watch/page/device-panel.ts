/**
 * Loads the panel that joins a cluster with this device. The panel is a separate bundle, so that the page contains no
 * code of the cluster.
 */

/**
 * Fills `container` with "Join with this device" and, once joined, with the device's state. `joinUrl`: the page's link
 * for others, with the token.
 */
export type MountDevicePanel = (container: HTMLElement, joinUrl: string) => void;

/** The bundle's path on the page's server. */
const SCRIPT = '/device-panel.js';

export async function loadDevicePanel(): Promise<MountDevicePanel> {
  const panel: { readonly mountDevicePanel: MountDevicePanel } = await import(SCRIPT);
  return panel.mountDevicePanel;
}
