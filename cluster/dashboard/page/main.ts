import { parseJoinUrl } from '../../join-url.js';
import { mountDevicePanel } from '../../tab/panel.js';

const page = document.querySelector<HTMLElement>('#page');
if (page) {
  try {
    const device = document.createElement('section');
    mountDevicePanel(device, parseJoinUrl(location.href));
    page.replaceChildren(device);
  } catch {
    page.textContent = 'This link is not whole: open all of what the coordinator printed, with what follows #.';
  }
}
