//! One life of the working process: open, settle, serve, close. Most lives end earlier.

use std::error::Error;
use std::io;

use crate::clients;
use crate::options::Orders;
use crate::payment::Payment;
use crate::random::Random;
use crate::report::Report;
use crate::service::Service;

/// The exit status of a child that failed by itself, which the demonstration does not forgive.
pub(crate) const FAILED: u8 = 2;

/// Works on the payments that come over standard input, one number a line.
pub(crate) fn run(orders: &Orders) -> Result<(), Box<dyn Error>> {
    let list = io::stdin()
        .lines()
        .map(|line| Ok(Payment(line?.parse()?)))
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let service = Service::open(&orders.dir)?;
    service.settle(&mut Random::seeded(orders.seed))?;
    Report::Ready.send();
    clients::send_all(&service, &list, orders.seed);
    service.close()?;
    Ok(())
}
