// End-to-end encryption: what is between two browsers sees public keys and ciphertext.
//
// Each page makes a key pair (ECDH P-256) that cannot be exported and is never stored. Two pages derive, by HKDF-SHA-256,
// one AES-GCM key for each direction, bound to both public keys. Each message has a number, authenticated with the rest
// of its envelope, that must grow: what is changed, sent to somebody else or sent again is refused. Who is at the other
// end is for people to check: both see the same safety number, unless somebody in between swapped a key.

const CURVE = { name: "ECDH", namedCurve: "P-256" };
const INFO = "wsgw chat v1";

const utf8 = (text) => new TextEncoder().encode(text);

export function toBase64(bytes) {
  let text = "";
  for (const byte of new Uint8Array(bytes)) text += String.fromCharCode(byte);
  return btoa(text);
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

/** A refused message, in words for the person who was to get it. */
export class Refused extends Error {}

/** This page's end: its key pair, and what others need of it. */
export class Identity {
  static async create() {
    const pair = await crypto.subtle.generateKey(CURVE, false, ["deriveBits"]);
    const raw = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
    return new Identity(pair.privateKey, raw, await keyId(raw));
  }

  constructor(privateKey, raw, id) {
    this.privateKey = privateKey;
    this.raw = raw;
    /** Names the key in envelopes. */
    this.id = id;
    /** The public key as others get it. */
    this.key = toBase64(raw);
  }
}

/** The first 16 bytes of the key's SHA-256: short, and nobody makes a second key with them. */
async function keyId(raw) {
  const digest = await crypto.subtle.digest("SHA-256", raw);
  return toBase64(new Uint8Array(digest).slice(0, 16));
}

/** The way to one other page. */
export class Channel {
  /**
   * @param {Identity} mine
   * @param {string} theirKey their public key, base64 of its raw form
   * @param {string} me both users' names, which the keys are bound to as well
   * @param {string} them
   */
  static async create(mine, theirKey, me, them) {
    let raw, publicKey;
    try {
      raw = fromBase64(theirKey);
      publicKey = await crypto.subtle.importKey("raw", raw, CURVE, false, []);
    } catch {
      throw new Refused("their key is no key on P-256");
    }
    const theirId = await keyId(raw);
    if (theirId === mine.id) throw new Refused("their key is this page's own");
    const secret = await crypto.subtle.deriveBits({ name: "ECDH", public: publicKey }, mine.privateKey, 256);
    const material = await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveKey"]);
    const [first, second] = [mine.raw, raw].sort(compare);
    const salt = await crypto.subtle.digest("SHA-256", join(first, second));
    const derive = (from, to, use) =>
      crypto.subtle.deriveKey(
        { name: "HKDF", hash: "SHA-256", salt, info: utf8(JSON.stringify([INFO, ...from, ...to])) },
        material,
        { name: "AES-GCM", length: 256 },
        false,
        [use],
      );
    const sealing = await derive([me, mine.id], [them, theirId], "encrypt");
    const opening = await derive([them, theirId], [me, mine.id], "decrypt");
    const number = await safetyNumber(join(utf8(`${INFO} safety number`), first, second));
    return new Channel(mine.id, theirId, sealing, opening, number);
  }

  constructor(myId, theirId, sealing, opening, safetyNumber) {
    this.myId = myId;
    this.theirId = theirId;
    this.sealing = sealing;
    this.opening = opening;
    /** What both people see, to be compared. */
    this.safetyNumber = safetyNumber;
    this.sent = 0;
    this.seen = 0;
  }

  /** Makes an envelope of anything that JSON can hold. */
  async seal(content) {
    const number = String(++this.sent);
    const iv = crypto.getRandomValues(new Uint8Array(12));
    const sealed = await crypto.subtle.encrypt(
      { name: "AES-GCM", iv, additionalData: header(this.myId, this.theirId, number) },
      this.sealing,
      padded(utf8(JSON.stringify(content))),
    );
    return { from_key: this.myId, to_key: this.theirId, number, iv: toBase64(iv), sealed: toBase64(sealed) };
  }

  /** Opens an envelope, or throws Refused. Each is opened once, in the order they were made. */
  async open(envelope) {
    const { number } = envelope;
    let bytes;
    try {
      bytes = await crypto.subtle.decrypt(
        {
          name: "AES-GCM",
          iv: fromBase64(envelope.iv),
          additionalData: header(this.theirId, this.myId, number),
        },
        this.opening,
        fromBase64(envelope.sealed),
      );
    } catch {
      throw new Refused("it was changed on its way, or is not meant for this page");
    }
    if (!/^[1-9]\d{0,14}$/.test(number) || Number(number) <= this.seen) throw new Refused("it came before");
    this.seen = Number(number);
    return JSON.parse(new TextDecoder().decode(unpadded(new Uint8Array(bytes))));
  }
}

function header(from, to, number) {
  return utf8(JSON.stringify([INFO, from, to, number]));
}

/** Fills up to a multiple of 128 bytes, so that lengths tell little: the bytes, 0x80, zeros (ISO/IEC 7816-4). */
function padded(bytes) {
  const whole = new Uint8Array(Math.ceil((bytes.length + 1) / 128) * 128);
  whole.set(bytes);
  whole[bytes.length] = 0x80;
  return whole;
}

function unpadded(bytes) {
  return bytes.subarray(0, bytes.lastIndexOf(0x80));
}

/** Thirty digits in groups of five. */
async function safetyNumber(bytes) {
  const digest = new DataView(await crypto.subtle.digest("SHA-512", bytes));
  const groups = [];
  for (let at = 0; at < 6; at++) {
    // 64 bits modulo 100,000 favour no group that anybody could notice.
    groups.push(String(digest.getBigUint64(at * 8) % 100000n).padStart(5, "0"));
  }
  return groups.join(" ");
}

function join(...parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function compare(one, two) {
  for (let at = 0; at < one.length; at++) if (one[at] !== two[at]) return one[at] - two[at];
  return 0;
}
