import { create as encode } from 'qrcode';

/** Width of the white border around a code, in modules, which readers need. */
const QUIET = 4;

/** Draws `text` as a QR code, dark on white in both colour schemes because many readers need it. */
export function drawQr(box: HTMLElement, text: string): void {
  const { modules } = encode(text, { errorCorrectionLevel: 'L' });
  const size = modules.size + 2 * QUIET;
  let path = '';
  for (let y = 0; y < modules.size; y++)
    for (let x = 0; x < modules.size; x++) if (modules.get(y, x)) path += `M${x + QUIET} ${y + QUIET}h1v1h-1z`;
  const draw = (name: string, attributes: Readonly<Record<string, string>>) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const svg = draw('svg', { viewBox: `0 0 ${size} ${size}`, role: 'img', 'aria-label': 'QR code of the link' });
  const paper = draw('rect', { width: String(size), height: String(size), fill: '#fff' });
  svg.append(paper, draw('path', { d: path, fill: '#000', 'shape-rendering': 'crispEdges' }));
  box.replaceChildren(svg);
}
