// Pages count UTF-16 units, the server counts code points. This is the one place where one becomes the other.

const isHigh = (unit) => unit >= 0xd800 && unit <= 0xdbff;
const isLow = (unit) => unit >= 0xdc00 && unit <= 0xdfff;

// How many numbers of a sorted list are below a limit.
export function countBelow(sorted, limit) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

export class Offsets {
  constructor(text) {
    this.seconds = []; // where the second halves of pairs stand, in units
    for (let unit = 1; unit < text.length; unit++) {
      if (isLow(text.charCodeAt(unit)) && isHigh(text.charCodeAt(unit - 1))) this.seconds.push(unit);
    }
    this.points = this.seconds.map((unit, before) => unit - 1 - before); // where the pairs stand, in code points
  }

  // A place inside a pair becomes the place before it.
  toPoints(unit) {
    const before = countBelow(this.seconds, unit);
    return this.seconds[before] === unit ? unit - 1 - before : unit - before;
  }

  toUnits(point) {
    return point + countBelow(this.points, point);
  }
}
