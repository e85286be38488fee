// The address after the login keeps the call that it names, which no request carries.
const form = document.forms[0];
form.action += location.hash;
