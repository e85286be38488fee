// How times, numbers and reasons are written.

export function seconds(s) {
  if (s === null || s === undefined) return "–";
  return s < 10 ? `${s.toFixed(2)} s` : `${s.toFixed(1)} s`;
}

export function milliseconds(ms) {
  return ms === null || ms === undefined ? "–" : seconds(ms / 1000);
}

export function age(s) {
  const whole = Math.floor(s);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export function moment(iso) {
  if (!iso) return "–";
  const at = new Date(iso);
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? at.toLocaleTimeString() : at.toLocaleString();
}

export function plain(word) {
  return word ? word.replaceAll("_", " ") : "–";
}

export function shortSid(callSid) {
  return `${callSid.slice(0, 6)}…${callSid.slice(-4)}`;
}
