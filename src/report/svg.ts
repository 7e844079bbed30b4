import { printableLine } from '../util/printable.js';

/** The part of the DOM that plots use. This code is compiled without the DOM's types. */
export interface Element {
  textContent: string | null;
  readonly outerHTML: string;
  setAttribute(name: string, value: string): void;
  removeAttribute(name: string): void;
  append(...children: Element[]): void;
  prepend(...children: Element[]): void;
  remove(): void;
  querySelectorAll(selector: string): Iterable<Element>;
}

const NAMESPACE = 'http://www.w3.org/2000/svg';
const FONT = '-apple-system, "Segoe UI", Helvetica, Arial, "Liberation Sans", sans-serif';

export type Draw = (name: string, attributes: Readonly<Record<string, string | number>>, content?: string) => Element;

/** A function that makes SVG elements in `document`. */
export function drawIn(document: { createElementNS(namespace: string, name: string): Element }): Draw {
  return (name, attributes, content) => {
    const element = document.createElementNS(NAMESPACE, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
    // XML rejects a file with a control character.
    if (content !== undefined) element.textContent = printableLine(content);
    return element;
  };
}

/** Makes Plot's `svg` a standalone file: with its size, fonts, colours, a title and a background. */
export function standAlone(
  svg: Element,
  draw: Draw,
  look: { title: string; width: number; height: number; ink: string; paper: string },
): void {
  const { title, width, height, ink, paper } = look;
  // Plot's style sheet works in pages only; an <img> and librsvg need plain attributes.
  for (const style of svg.querySelectorAll('style')) style.remove();
  svg.removeAttribute('class');
  const plain = {
    xmlns: NAMESPACE,
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    role: 'img',
    'font-family': FONT,
    'font-size': 12,
    fill: ink,
  };
  for (const [key, value] of Object.entries(plain)) svg.setAttribute(key, String(value));
  svg.prepend(draw('title', {}, title), draw('rect', { width, height, fill: paper }));
}
